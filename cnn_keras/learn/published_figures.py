"""What the literature prints of the networks: parameters and multiply-adds, as printed, each with its source.

Figures are of a builder's own default arguments. Those that a popular port or table gives for what is, on a closer
look, another network are listed too, with the reason: they are the usual way to be wrong about a paper.
"""

from dataclasses import dataclass
from decimal import Decimal

UNITS = {"": 1, "M": 10**6, "G": 10**9}
TORCHVISION = "torchvision's documentation"


@dataclass(frozen=True)
class Figure:
    """One printed number.

    quantity: `trainable` or all `parameters` (which count the statistics of batch normalisation too), or
    `multiply_adds` of convolutions and dense layers. printed: with its unit, "60 M", "3.8 G" or "138,357,544".
    differs: why ours is rightly another number; empty where ours must agree.
    """

    quantity: str
    printed: str
    source: str
    differs: str = ""


def agrees(ours: int, printed: str) -> bool:
    """Whether a count is the printed one, to its printed digits.

    Authors round (ResNet-101: 7.57 to "7.6 G") or cut off (ResNet-50: 3.86 to "3.8 G"), so both count: the distance
    must be less than one in the last printed digit. An integer printed in full must be met exactly.

    Args:
        ours: the count, an integer.
        printed: "60 M" (the last digit is the 0: 59 to 61 M, both ends excluded), "3.8 G" or "138,357,544".
    """
    digits, _, unit = printed.partition(" ")
    value = Decimal(digits.replace(",", ""))
    last_digit = Decimal(1).scaleb(int(value.as_tuple().exponent))
    return abs(ours - value * UNITS[unit]) < last_digit * UNITS[unit]


def figures(name: str) -> tuple[Figure, ...]:
    """The figures of the builder of this name, such as vgg.vgg16; an empty tuple where nobody prints any."""
    return FIGURES.get(name, ())


def _torchvision(parameters: str, multiply_adds: str, *, differs: str = "") -> tuple[Figure, ...]:
    return (
        Figure("trainable", parameters, TORCHVISION, differs),
        Figure("multiply_adds", multiply_adds, TORCHVISION, differs),
    )


def _simonyan(parameters: str) -> Figure:
    return Figure("trainable", parameters, "Simonyan and Zisserman 2014, table 2")


def _he(multiply_adds: str, table: str = "table 1") -> Figure:
    return Figure("multiply_adds", multiply_adds, f"He et al. 2015, {table}")


def _he_cifar(parameters: str) -> tuple[Figure, ...]:
    return (Figure("trainable", parameters, "He et al. 2015, table 6"),)


def _keras(parameters: str, *, differs: str = "") -> Figure:
    return Figure("parameters", parameters, "keras.applications", differs)


def _redmon(operations: str, multiply_adds: str) -> tuple[Figure, ...]:
    """Of a Darknet network: its author counts multiplications and additions."""
    return (Figure("multiply_adds", multiply_adds, f"pjreddie.com, half of {operations} operations"),)


def _strided_early(paper: str, parameters: str, late: str, keras: str) -> tuple[Figure, ...]:
    """Of a ResNet v1 with bottlenecks, of which two other kinds are about."""
    return (
        _he(paper),
        Figure("trainable", parameters, TORCHVISION),
        Figure("multiply_adds", late, TORCHVISION, differs="v1.5: strides in the 3×3 convolutions"),
        _keras(keras, differs="its convolutions have biases, before the normalisation"),
    )


FIGURES = {
    "alexnet.alexnet": (
        Figure("trainable", "60 M", "Krizhevsky et al. 2012, abstract"),
        *_torchvision("61,100,840", "0.71 G", differs="alexnet.alexnet_one_tower, of 2014"),
    ),
    "alexnet.alexnet_one_tower": _torchvision("61,100,840", "0.71 G"),
    "conv3d.resnet18": _torchvision("33,371,472", "40.70 G"),
    "darknet.darknet19": _redmon("5.58 Bn", "2.79 G"),
    "darknet.darknet53": _redmon("18.57 Bn", "9.285 G"),
    "deepface.deepface": (Figure("trainable", "0.12 G", "Taigman et al. 2014, section 3.2: more than 120 million"),),
    "densenet.densenet121": (*_torchvision("7,978,856", "2.83 G"), _keras("8,062,504")),
    "densenet.densenet169": (*_torchvision("14,149,480", "3.36 G"), _keras("14,307,880")),
    "densenet.densenet201": (*_torchvision("20,013,928", "4.29 G"), _keras("20,242,984")),
    "facenet.nn1": (
        Figure("trainable", "140 M", "Schroff et al. 2015, table 1"),
        Figure("multiply_adds", "1.6 G", "Schroff et al. 2015, table 1"),
    ),
    "facenet.nn2": (
        Figure("trainable", "7.5 M", "Schroff et al. 2015, table 2"),
        Figure("multiply_adds", "1.6 G", "Schroff et al. 2015, table 2"),
    ),
    "fcn.fcn32s": (Figure("trainable", "134 M", "Long et al. 2015, table 1"),),
    "googlenet.googlenet": (
        Figure("trainable", "7.0 M", "Szegedy et al. 2014, table 1, summed (its K is 1024)"),
        Figure("multiply_adds", "1.5 G", "Szegedy et al. 2014, section 1"),
        *_torchvision("6,624,904", "1.50 G", differs="3×3 convolutions for 5×5, batch normalisation"),
    ),
    "lenet.lenet5": (Figure("trainable", "60,000", "LeCun et al. 1998, section II.B"),),
    "mobilenet.mobilenet_v2": (
        Figure("multiply_adds", "300 M", "Sandler et al. 2018, table 4"),
        *_torchvision("3,504,872", "0.30 G"),
        _keras("3,538,984"),
    ),
    "nin.nin": (Figure("trainable", "7.6 M", "the authors' Caffe model, 29 MB of float32"),),
    "nin.nin_cifar": (Figure("trainable", "0.97 M", "the authors' Caffe model, counted"),),
    "pilotnet.pilotnet": (
        Figure("trainable", "0.25 M", "Bojarski et al. 2016, section 4: 250 thousand"),
        Figure("multiply_adds", "27 M", "Bojarski et al. 2016, section 4: connections"),
    ),
    "resnet.resnet18": (_he("1.8 G"), *_torchvision("11,689,512", "1.81 G")),
    "resnet.resnet34": (_he("3.6 G"), *_torchvision("21,797,672", "3.66 G")),
    "resnet.resnet50": _strided_early("3.8 G", "25,557,032", "4.09 G", "25,636,712"),
    "resnet.resnet101": _strided_early("7.6 G", "44,549,160", "7.80 G", "44,707,176"),
    "resnet.resnet152": _strided_early("11.3 G", "60,192,808", "11.51 G", "60,419,944"),
    "resnet.resnet50_v1_5": (
        *_torchvision("25,557,032", "4.09 G"),
        Figure("multiply_adds", "3.8 G", "He et al. 2015, table 1", "v1: strides in the 1×1 convolutions"),
    ),
    "resnet.resnet101_v1_5": _torchvision("44,549,160", "7.80 G"),
    "resnet.resnet152_v1_5": _torchvision("60,192,808", "11.51 G"),
    "resnet.plain18": (_he("1.8 G"),),
    "resnet.plain34": (_he("3.6 G", "figure 3"),),
    "resnet.resnet50v2": (_keras("25,613,800"),),
    "resnet.resnet101v2": (_keras("44,675,560"),),
    "resnet.resnet152v2": (_keras("60,380,648"),),
    "resnet.resnet20": _he_cifar("0.27 M"),
    "resnet.resnet32": _he_cifar("0.46 M"),
    "resnet.resnet44": _he_cifar("0.66 M"),
    "resnet.resnet56": _he_cifar("0.85 M"),
    "resnet.resnet110": _he_cifar("1.7 M"),
    "unet.unet": (Figure("trainable", "31,030,658", "counted of the authors' Caffe model, as printed by many ports"),),
    "unet.unet3d": (Figure("trainable", "19,069,955", "Çiçek et al. 2016, section 2"),),
    "vgg.vgg11": (_simonyan("133 M"), *_torchvision("132,863,336", "7.61 G")),
    "vgg.vgg13": (_simonyan("133 M"), *_torchvision("133,047,848", "11.31 G")),
    "vgg.vgg16": (_simonyan("138 M"), *_torchvision("138,357,544", "15.47 G"), _keras("138,357,544")),
    "vgg.vgg19": (_simonyan("144 M"), *_torchvision("143,667,240", "19.63 G"), _keras("143,667,240")),
    "yolo.yolov2_tiny": _redmon("6.97 Bn", "3.485 G"),
    "yolo.yolov3": _redmon("65.86 Bn", "32.93 G"),
    "yolo.yolov3_tiny": _redmon("5.56 Bn", "2.78 G"),
    "yolov1.fast_yolo": (Figure("trainable", "45,089,374", "counted of the authors' yolo-tiny.cfg by many ports"),),
    "yolov1.yolov1": (
        Figure("trainable", "271,703,550", "Redmon et al. 2016, figure 3, counted by many ports"),
        Figure(
            "multiply_adds",
            "20.095 G",
            "pjreddie.com, half of 40.19 Bn operations",
            differs="the later yolov1.cfg, whose last layers are a locally connected and one dense layer",
        ),
    ),
}
