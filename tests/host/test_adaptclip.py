from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lite0 import lite0
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]
from torch import Tensor

from edge_sdk.errors import InputError
from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.adaptclip.checkpoint import (
    load_adapters,
    released_state,
    save_adapters,
    save_released,
)
from export_tools.adaptclip.fusion import gaussian_matrix
from export_tools.adaptclip.model import AdaptClip, FewShot
from export_tools.adaptclip.prompt_query import PromptQueryAdapter, build_memory, match
from export_tools.adaptclip.prompts import unit
from export_tools.adaptclip.textual import TextualAdapter
from export_tools.backbones.spec import BackboneSpec, TokenSpec, clip_spec, efficientnet_spec
from export_tools.clip.config import ClipConfig, PictureTowerSettings, TextConfig, VisionConfig
from export_tools.clip.text import TextTower
from export_tools.clip.vision import EncodedPicture, VisionTower
from export_tools.training.step import TrainingBatch, build_optimizer, training_step

LAYERS, DIM, GRID, SIZE = 2, 32, (4, 4), (64, 64)


def config(embed_dim: int = DIM) -> ClipConfig:
    return ClipConfig(
        embed_dim=embed_dim,
        vision=VisionConfig(width=64, layers=3, heads=1, patch_size_px=16, native_size_px=32),
        text=TextConfig(width=64, layers=1, heads=1, context_length=20, vocab_size=1000),
        activation="quick_gelu",
    )


def initialised(module: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1, generator=generator)


@pytest.fixture(scope="module")
def text() -> TextTower:
    tower = TextTower(config())
    initialised(tower)
    return tower.eval()


@pytest.fixture(scope="module")
def spec() -> BackboneSpec:
    settings = PictureTowerSettings(image_size_px=64, layers=(2, 3), dual_path_layers=1)
    return clip_spec(VisionTower(config(), settings))


@pytest.fixture
def adapters(spec: BackboneSpec) -> Adapters:
    settings = AdapterSettings(contexts=4, reduction=2, mid=8)
    return Adapters(spec, text_width=64, settings=settings, seed=1).eval()


@pytest.fixture
def released(adapters: Adapters, text: TextTower, tmp_path: Path) -> Path:
    save_released(adapters, text, tmp_path / "epoch_15.pth")
    return tmp_path / "epoch_15.pth"


def encoded(pictures: int, seed: int = 0) -> EncodedPicture:
    generator = torch.Generator().manual_seed(seed)
    return EncodedPicture(
        class_feature=torch.randn(pictures, DIM, generator=generator),
        tokens=tuple(torch.randn(pictures, 17, DIM, generator=generator) for _ in range(LAYERS)),
    )


def model(adapters: Adapters, **changes: Any) -> AdaptClip:
    arguments: dict[str, Any] = {
        "static_text": torch.eye(2, DIM),
        "learned_text": torch.eye(2, DIM).flip(1),
        "visual": adapters.visual,
        "prompt_query": adapters.prompt_query,
        "image_size": SIZE,
        "grid": GRID,
    }
    return AdaptClip(**(arguments | changes)).eval()


@torch.no_grad()
def few_shot(judge: AdaptClip, pictures: EncodedPicture, good: EncodedPicture) -> FewShot:
    return judge.few_shot(pictures.class_feature, pictures.patches, memory(good))


def memory(good: EncodedPicture) -> tuple[Tensor, ...]:
    return build_memory([layer[i] for layer in good.patches] for i in range(len(good.tokens[0])))


def rewritten(path: Path, change: Any) -> Path:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    return path


def test_a_picture_that_equals_its_reference_is_normal_and_finite(adapters: Adapters) -> None:
    good = encoded(1)
    found = few_shot(model(adapters), good, good)
    assert torch.isfinite(found.map).all()
    assert float(found.peak) < 1e-5
    assert float(found.score) < 1e-4


def test_a_score_does_not_depend_on_the_batch(adapters: Adapters) -> None:
    judge, good, pictures = model(adapters), encoded(2, seed=3), encoded(3, seed=4)
    together = few_shot(judge, pictures, good).score
    for i in range(3):
        alone = EncodedPicture(
            class_feature=pictures.class_feature[i : i + 1],
            tokens=tuple(layer[i : i + 1] for layer in pictures.tokens),
        )
        (score,) = few_shot(judge, alone, good).score
        assert float(score) == pytest.approx(float(together[i]), abs=1e-6)


def test_not_a_number_stays_one_and_never_becomes_zero(adapters: Adapters) -> None:
    broken = encoded(1)
    broken.tokens[-1][0, 3, 5] = float("nan")
    found = few_shot(model(adapters), broken, encoded(1, seed=2))
    assert torch.isnan(found.map).any()
    assert torch.isnan(found.score).all()


def test_without_trained_adapters_the_static_prompts_judge_alone(adapters: Adapters) -> None:
    plain = model(adapters, learned_text=None, visual=None, prompt_query=None)
    picture = encoded(1)
    found = plain.zero_shot(picture.class_feature, picture.patches[-1])
    cosines = unit(picture.class_feature) @ torch.eye(2, DIM).T / 0.07
    assert torch.allclose(found.branches[0].global_logits, cosines)
    assert len(found.branches) == 1
    with pytest.raises(InputError, match="prompt-query adapter"):
        plain.few_shot(picture.class_feature, picture.patches, memory(picture))


def test_neighbours_are_the_same_whatever_the_size_of_the_memory() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = unit(torch.randn(40_000, 8, generator=generator))
    query = unit(torch.randn(2, 5, 8, generator=generator))
    found = match(query, rows)
    similarity = query @ rows.T
    assert torch.equal(found.row, similarity.argmax(dim=-1))
    assert torch.allclose(found.distance, 1 - similarity.amax(dim=-1), atol=1e-6)
    assert torch.equal(found.nearest, rows[found.row])
    each = match(query, torch.stack([rows[:30_000], rows[5_000:35_000]]))
    assert torch.equal(each.row[1], similarity[1, :, 5_000:35_000].argmax(dim=-1))


@pytest.mark.parametrize(("side", "sigma"), [(70, 4.0), (9, 4.0), (33, 1.5)])
def test_the_gaussian_is_that_of_scipy_with_its_mirrored_border(side: int, sigma: float) -> None:
    picture = np.random.default_rng(0).random((side, side)).astype(np.float32)
    matrix = gaussian_matrix(side, sigma)
    expected = gaussian_filter(picture, sigma, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(matrix @ picture @ matrix.T, expected, atol=1e-6)


def test_the_prompt_query_adapter_fits_the_built_in_network() -> None:
    spec = efficientnet_spec(lite0(3, 5), (64, 96))
    joined = spec.joined()
    assert joined.common().grid == (8, 12)
    adapter = PromptQueryAdapter(joined, mid=8).eval()
    rows, dim = 8 * 12, joined.common().dim
    tokens = torch.randn(1, rows, dim, generator=torch.Generator().manual_seed(0))
    found = adapter([tokens], [unit(tokens[0].flip(0))])
    assert found.local_logits[0].shape == (1, 2, 32, 48)
    with pytest.raises(InputError, match="one width and grid"):
        PromptQueryAdapter(spec)


def test_training_without_text_lowers_the_loss_of_the_prompt_query_adapter() -> None:
    spec = BackboneSpec(
        tokens=(TokenSpec(layer=1, dim=8, grid=(4, 4), stride_px=4),), has_text=False
    )
    adapters = Adapters(spec, text_width=None, settings=AdapterSettings(mid=8))
    generator = torch.Generator().manual_seed(0)
    good = unit(torch.randn(4, 16, 8, generator=generator))
    query, masks = good.clone(), torch.zeros(4, 16, 16)
    query[2:, 5] = unit(torch.randn(2, 8, generator=generator))
    masks[2:, 4:8, 4:8] = 1
    batch = TrainingBatch(
        class_feature=None,
        tokens=[query],
        memories=[good],
        labels=torch.tensor([0, 0, 1, 1]),
        masks=masks,
    )
    optimizer = build_optimizer(adapters)
    totals = []
    for _ in range(80):
        losses = training_step(adapters, batch, optimizer)
        assert losses.visual is None
        totals.append((losses.total_global() + losses.total_local()).item())
    assert totals[-1] < 0.8 * totals[0]


def test_training_stops_at_a_loss_that_is_no_number(adapters: Adapters) -> None:
    adapters.textual = adapters.visual = None
    before = {name: value.clone() for name, value in adapters.named_parameters()}
    tokens = [torch.full((2, 16, DIM), float("nan"))] * LAYERS
    batch = TrainingBatch(
        class_feature=None,
        tokens=tokens,
        memories=[unit(torch.ones(2, 16, DIM))] * LAYERS,
        labels=torch.tensor([0, 1]),
        masks=torch.zeros(2, *SIZE),
    )
    with pytest.raises(InputError, match="finite loss"):
        training_step(adapters, batch, build_optimizer(adapters))
    assert all(torch.equal(before[name], value) for name, value in adapters.named_parameters())


def test_both_layouts_give_the_same_adapters(
    adapters: Adapters, released: Path, spec: BackboneSpec, text: TextTower, tmp_path: Path
) -> None:
    save_adapters(adapters, tmp_path / "ours.safetensors", notes={"training_data": "none"})
    expected = released_state(adapters, text)
    for path in (released, tmp_path / "ours.safetensors"):
        loaded, source = load_adapters(path, spec, text)
        assert len(source.sha256) == 64
        for learner, state in released_state(loaded, text).items():
            for name, value in state.items():
                assert torch.equal(value, expected[learner][name]), name


def test_the_released_layout_lists_the_shared_heads_once_a_layer(
    adapters: Adapters, text: TextTower
) -> None:
    state = released_state(adapters, text)
    assert set(state) == {"textual_learner", "visual_learner", "pq_learner"}
    assert "local_adater.fc.0.weight" in state["visual_learner"]
    first, second = (state["pq_learner"][f"local_adapter.{i}.0.weight"] for i in (0, 1))
    assert first.data_ptr() == second.data_ptr()
    assert state["textual_learner"]["token_suffix_neg"].shape == (1, 1, 15, 64)


def test_a_file_of_another_digest_is_refused(
    released: Path, spec: BackboneSpec, text: TextTower
) -> None:
    with pytest.raises(InputError, match=r"expected sha256 0000.*got [0-9a-f]{64}"):
        load_adapters(released, spec, text, sha256="0" * 64)


def test_a_checkpoint_of_another_width_is_refused(released: Path, text: TextTower) -> None:
    settings = PictureTowerSettings(image_size_px=64, layers=(2, 3), dual_path_layers=1)
    wider = clip_spec(VisionTower(config(48), settings))
    with pytest.raises(InputError, match=r"expected the shape .*48.*got .*32"):
        load_adapters(released, wider, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["pq_learner"].pop("sharebn.1.weight"),
            r"none for prompt_query.norms.1.weight",
        ),
        (
            lambda s: s["visual_learner"].update(depth=torch.zeros(1)),
            r"got visual.depth besides",
        ),
        (
            lambda s: s["pq_learner"].update(
                {"local_adapter.1.8.bias": s["pq_learner"]["local_adapter.0.8.bias"] + 1}
            ),
            r"local_adapter.1.8.bias: expected the same tensor for every layer",
        ),
        (
            lambda s: s["pq_learner"].pop("global_adapter.1.6.weight"),
            r"expected it listed for 2 layers, got \[0\]",
        ),
        (
            lambda s: s["textual_learner"]["token_suffix_pos"].add_(1),
            r"trained with another CLIP",
        ),
        (
            lambda s: s["textual_learner"]["ctx_pos"].fill_(float("nan")),
            r"textual_learner.ctx_pos: expected finite numbers",
        ),
        (lambda s: s.pop("pq_learner"), r"expected AdaptCLIP adapters"),
        (lambda s: s.update(epoch=15), r"epoch: expected a tensor, got int"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_should_be_is_refused(
    released: Path, spec: BackboneSpec, text: TextTower, change: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_adapters(rewritten(released, change), spec, text)


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_is_not_run(
    spec: BackboneSpec, text: TextTower, tmp_path: Path
) -> None:
    torch.save({"pq_learner": Payload(tmp_path / "owned")}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Payload(tmp_path / "owned"), protocol=2))
    for name in ("evil.pth", "bare.pth"):
        with pytest.raises(InputError, match="pickle with code in it"):
            load_adapters(tmp_path / name, spec, text)
    assert not (tmp_path / "owned").exists()


def test_a_prompt_that_is_too_long_is_refused(text: TextTower) -> None:
    with pytest.raises(InputError, match="at most 17 learned tokens, got 18"):
        TextualAdapter(64, contexts=18).prompts(text)


def test_a_grid_with_fewer_patches_than_the_head_reads_is_refused() -> None:
    small = BackboneSpec(
        tokens=(TokenSpec(layer=1, dim=8, grid=(3, 3), stride_px=16),), has_text=False
    )
    with pytest.raises(InputError, match="at least 10 patches, got 3 x 3"):
        PromptQueryAdapter(small)
