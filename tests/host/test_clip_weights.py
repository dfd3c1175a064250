from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_repository import (
    CONFIG,
    OPEN_CLIP,
    SETTINGS,
    make_repository,
    make_state,
    make_tokenizer,
    to_transformers,
)
from safetensors.torch import save_file

from edge_sdk.errors import InputError
from export_tools.clip.config import PictureTowerSettings
from export_tools.clip.presets import PRESETS
from export_tools.clip.text import TextTower
from export_tools.clip.vision import VisionTower
from export_tools.clip.weights import default_settings, load_clip, random_clip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "tiny")


def test_a_folder_in_open_clips_layout_gives_both_towers_and_its_tokenizer(
    repository: Path,
) -> None:
    loaded = load_clip(str(repository), SETTINGS)
    state = make_state()
    assert torch.equal(loaded.text.text_projection, state["text_projection"])
    assert torch.equal(loaded.vision.proj, state["visual.proj"])
    assert loaded.config.mean == (0.5, 0.4, 0.3)
    assert (
        loaded.sha256
        == hashlib.sha256((repository / "open_clip_model.safetensors").read_bytes()).hexdigest()
    )
    tokens = loaded.tokenizer.encode(["a b"])
    assert tokens.shape == (1, 77)
    assert tokens[0, 0] == 398
    assert not loaded.is_random


def test_transformers_layout_gives_the_same_towers(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "transformers"
    folder.mkdir()
    save_file(to_transformers(make_state()), str(folder / "model.safetensors"))
    vision = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1}
    vision |= {"patch_size": 16, "image_size": 64, "intermediate_size": 256}
    text = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
    text |= {"vocab_size": 400, "intermediate_size": 256}
    document = {"projection_dim": 24, "vision_config": vision, "text_config": text}
    (folder / "config.json").write_text(json.dumps(document))
    make_tokenizer().save(str(folder / "tokenizer.json"))
    theirs, ours = load_clip(str(folder), SETTINGS), load_clip(str(repository), SETTINGS)
    for tower in ("vision", "text"):
        expected = getattr(ours, tower).state_dict()
        for name, value in getattr(theirs, tower).state_dict().items():
            assert torch.equal(value, expected[name]), name


def test_a_pickled_state_dict_in_half_precision_says_its_own_sizes(tmp_path: Path) -> None:
    state = {f"module.{name}": value.half() for name, value in make_state().items()}
    state |= {"module.input_resolution": torch.tensor(64)}
    table = torch.zeros(49408, 64)  # CLIP's own tokenizer is the only one to go with a bare file
    state["module.token_embedding.weight"] = table
    torch.save(state, tmp_path / "clip.pt")
    loaded = load_clip(str(tmp_path / "clip.pt"), SETTINGS)
    assert loaded.config.vision == CONFIG.vision
    assert loaded.vision.proj.dtype == torch.float32
    assert loaded.tokenizer.encode(["a photo."])[0, 0] == 49406


def test_the_position_table_is_resized_once_from_the_original(repository: Path) -> None:
    larger = PictureTowerSettings(image_size_px=96, layers=(3,), dual_path_layers=1)
    table = load_clip(str(repository), larger).vision.positional_embedding
    assert table.shape == (37, 64)
    assert torch.equal(table[0], make_state()["visual.positional_embedding"][0])


def spoilt(**changes: Any) -> dict[str, Any]:
    model = OPEN_CLIP["model_cfg"]
    return OPEN_CLIP | {"model_cfg": model | changes}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config": spoilt(embed_dim=32)}, r"proj: expected the shape .*32.*got .*24"),
        ({"config": spoilt(vision_cfg={"image_size": 64})}, "width: expected a whole number"),
        ({"config": spoilt(custom=1)}, "expected a plain CLIP transformer"),
        (
            {"state": {k: v for k, v in make_state().items() if k != "visual.ln_post.bias"}},
            "none for ln_post.bias",
        ),
        ({"state": make_state() | {"visual.attnpool": torch.zeros(2)}}, "got attnpool besides"),
        (
            {"state": make_state() | {"visual.proj": torch.full((64, 24), torch.nan)}},
            "visual.proj: expected finite numbers",
        ),
        ({"tokenizer": make_tokenizer(380)}, r"expected 400 tokens.*got 380"),
    ],
)
def test_what_does_not_fit_is_said_with_what_was_expected(
    tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_clip(str(make_repository(tmp_path / "bad", **files)), SETTINGS)


def test_a_wrong_digest_an_unknown_tower_and_a_size_off_the_grid_are_refused(
    repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected sha256 00"):
        load_clip(str(repository), SETTINGS, sha256="00" * 32)
    with pytest.raises(InputError, match=r"expected one of ViT-L-14-336, .*got 'ViT-X'"):
        load_clip("ViT-X", SETTINGS)
    odd = PictureTowerSettings(image_size_px=100, layers=(3,), dual_path_layers=1)
    with pytest.raises(InputError, match="multiple of the patch of 16 px, got 100 px"):
        load_clip(str(repository), odd)
    with pytest.raises(InputError, match=r"open_clip_config.json beside"):
        load_clip(str(tmp_path), SETTINGS)


def test_every_preset_builds_its_towers_shape_by_shape() -> None:
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            vision = VisionTower(preset.config, preset.settings)
            text = TextTower(preset.config)
        count = sum(p.numel() for tower in (vision, text) for p in tower.parameters())
        expected = {  # millions, of the published models
            "ViT-L-14-336": 428,
            "ViT-B-16-plus-240": 208,
            "ViT-B-16": 150,
            "ViT-B-32": 151,
            "TinyCLIP-ViT-8M-16": 23,
        }[name]
        assert count / 1e6 == pytest.approx(expected, rel=0.02), name


def test_random_weights_say_that_they_are_and_are_the_same_by_seed() -> None:
    first, second = (random_clip("TinyCLIP-ViT-8M-16", seed=4) for _ in range(2))
    assert first.is_random
    assert torch.equal(first.vision.proj, second.vision.proj)
    assert default_settings(first.config).layers == (2, 5, 8, 10)
    with pytest.raises(InputError, match="tower: expected one of"):
        random_clip("nothing")


class Hub:
    """A hub on this machine: the part of the real one's protocol that fetching takes."""

    commit = "a" * 40

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def do_HEAD(self) -> None:
                hub.answer(self)

            def log_message(self, *args: object) -> None:
                del args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path, request.headers.get("Range")
        self.requests.append((path, wanted))
        if path.startswith("/api/models/someone/tiny"):
            files = [{"rfilename": one.name} for one in sorted(self.folder.iterdir())]
            answer = {"id": "someone/tiny", "sha": self.commit, "siblings": files}
            if "/tree/" in path:
                listed = [
                    {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": "0" * 40}
                    for one in sorted(self.folder.iterdir())
                ]
                self.send(request, json.dumps(listed).encode(), {})
            else:
                self.send(request, json.dumps(answer).encode(), {})
            return
        file = self.folder / path.rsplit("/", 1)[1]
        if not path.startswith("/someone/tiny/resolve/") or not file.is_file():
            request.send_error(404)
            return
        data = file.read_bytes()
        headers = {
            "X-Repo-Commit": self.commit,
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        self.send(request, data, headers, wanted)

    def send(
        self,
        request: BaseHTTPRequestHandler,
        data: bytes,
        headers: dict[str, str],
        wanted: str | None = None,
    ) -> None:
        first = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        request.send_response(206 if first else 200)
        if first:
            headers = headers | {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        for name, value in (headers | {"Content-Length": str(len(data) - first)}).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data[first:])


@pytest.fixture
def hub(repository: Path) -> Iterator[Hub]:
    hub = Hub(repository)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


LOAD = """
import sys
from edge_sdk.errors import EdgeError
from export_tools.clip.weights import load_clip
try:
    print(load_clip("someone/tiny", offline="--offline" in sys.argv).source)
except EdgeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def fetched(home: Path, address: str, *words: str) -> tuple[int, str]:
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", LOAD, *words],
        env=os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def test_a_repository_is_fetched_once_and_found_again_offline(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, said = fetched(home, hub.address, "--offline")
    assert code == 11
    assert "was not fetched before" in said
    assert fetched(home, hub.address) == (0, f"someone/tiny at {hub.commit}")
    before = len(hub.requests)
    assert fetched(home, "http://127.0.0.1:9", "--offline") == (0, f"someone/tiny at {hub.commit}")
    assert len(hub.requests) == before


def test_a_repository_that_is_not_there_is_said(hub: Hub, tmp_path: Path, repository: Path) -> None:
    for file in repository.iterdir():
        file.unlink()
    code, said = fetched(tmp_path / "home", hub.address)
    assert code == 11
    assert "someone" in said or "expected open_clip_config.json" in said
