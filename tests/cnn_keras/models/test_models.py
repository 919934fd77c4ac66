"""Every network of the catalogue against its paper and against the promises that all networks keep."""

import gc
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest

from cnn_keras import models
from cnn_keras.learn import model_profile

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@dataclass(frozen=True)
class Figures:
    """What a network counts as its builder makes it by default, and how its promises are tried.

    `test_published` holds these figures to the literature's. Multiply-adds are those of convolutions and dense
    layers; `total` counts the statistics of batch normalisation too. `small` are the arguments under which the promises
    are tried, quick for the smallest of a family. A network that answers with more than logits keeps its promises in a
    test file of its own, `elsewhere`.
    """

    trainable: int
    multiply_adds: int
    total: int | None = None
    small: dict = field(default_factory=dict)
    quick: bool = False
    elsewhere: str | None = None


AT_67 = {"input_shape": (67, 67, 3), "hidden": 32}
NARROW = {"hidden": 32}
SLAB = {"input_shape": (92, 92, 92, 1)}
CLIP = {"input_shape": (8, 16, 16, 3)}
GRID = {"input_shape": (64, 64, 3), "hidden": 32}
EIGHT_LAYERS = {"depth": 8}
TABLE = {
    "alexnet.alexnet": Figures(60_965_224, 724_406_816, small=AT_67),
    "alexnet.alexnet_one_tower": Figures(61_100_840, 714_188_480, small=AT_67),
    "alexnet.zfnet": Figures(62_357_608, 1_168_032_896, small=AT_67),
    "blazeface.blazeface": Figures(
        134_704, 188_749_824, small={"input_shape": (64, 64, 3)}, elsewhere="test_blazeface"
    ),
    "centernet.centernet": Figures(2_014_924, 1_295_249_792, elsewhere="test_centernet"),
    "conv1d.two_conv": Figures(3_018, 16_480, small={"input_shape": (14, 1)}, quick=True),
    "conv1d.fcn": Figures(264_450, 25_264_384, 265_474, small={"input_shape": (24, 2)}, quick=True),
    "conv1d.resnet": Figures(502_850, 48_027_904, 505_154, small={"input_shape": (24, 2)}, quick=True),
    "conv3d.two_conv": Figures(66_378, 15_824_320, small={"input_shape": (14, 14, 14, 1)}, quick=True),
    "conv3d.c3d": Figures(79_991_015, 38_548_959_232, small=CLIP | NARROW),
    "conv3d.resnet18": Figures(33_371_472, 40_696_553_472, 33_381_072, small=CLIP),
    "darknet.darknet19": Figures(20_842_376, 2_790_989_824, 20_856_776),
    "darknet.darknet53": Figures(41_609_928, 9_285_115_904, 41_645_640),
    "deepface.deepface": Figures(
        118_923_774, 517_624_448, small={"input_shape": (71, 71, 3), "hidden": 32, "classes": 5}
    ),
    "deepface.small": Figures(87_802, 100_960, small={"input_shape": (16, 16, 1)}, quick=True),
    "densenet.densenet121": Figures(7_978_856, 2_834_161_664, 8_062_504),
    "densenet.densenet169": Figures(14_149_480, 3_359_843_328, 14_307_880),
    "densenet.densenet201": Figures(20_013_928, 4_291_365_888, 20_242_984),
    "efficientnet.efficientnet_lite0": Figures(4_652_008, 385_187_552, 4_694_024),
    "faceapi.descriptor": Figures(5_611_040, 270_854_144, 5_618_144, small={"input_shape": (103, 103, 3)}),
    "faceapi.landmarks": Figures(356_840, 51_571_840, quick=True),
    "facenet.nn1": Figures(140_025_664, 1_605_944_064, small={"hidden": 16}),
    "facenet.nn2": Figures(7_456_304, 1_596_530_688),
    "facenet.small": Figures(715_208, 92_403_072, 717_368, quick=True),
    "fcn.fcn32s": Figures(134_346_581, 21_296_701_440, 136_152_917, elsewhere="test_fcn"),
    "fcn.fcn16s": Figures(134_364_410, 21_299_154_576, 134_815_994, elsewhere="test_fcn"),
    "fcn.fcn8s": Figures(134_376_863, 21_304_752_336, 134_489_759, elsewhere="test_fcn"),
    "googlenet.googlenet": Figures(6_998_552, 1_582_671_872),
    "introductory.two_conv": Figures(3_241_354, 7_059_968, quick=True),
    "lenet.lenet5": Figures(60_000, 325_680, quick=True),
    "lenet.lenet5_modern": Figures(61_706, 416_520, quick=True),
    "liveness.antispoof": Figures(426_674, 100_033_536, quick=True),
    "liveness.livenessnet": Figures(148_242, 6_471_808, 148_562, quick=True),
    "mask_rcnn.mask_rcnn": Figures(19_933_594, 19_445_911_552, 19_938_074, elsewhere="test_mask_rcnn"),
    "mask_rcnn.mask_rcnn_small": Figures(3_182_762, 521_378_048, 3_186_730, elsewhere="test_mask_rcnn"),
    "maxout.maxout": Figures(418_714, 30_746_736, quick=True),
    "mobilenet.mobilenet_v2": Figures(3_504_872, 300_774_272, 3_538_984),
    "movenet.movenet": Figures(
        2_335_110, 270_549_504, 2_369_382, small={"input_shape": (64, 64, 3)}, elsewhere="test_movenet"
    ),
    "nin.nin": Figures(7_595_176, 1_105_996_320, small={"input_shape": (67, 67, 3)}),
    "nin.nin_cifar": Figures(966_986, 222_486_528, quick=True),
    "pilotnet.pilotnet": Figures(252_219, 26_876_342, small={"input_shape": (66, 80, 3)}, quick=True),
    "rcnn.faster_rcnn": Figures(17_305_734, 18_928_095_232, 17_310_214, elsewhere="test_rcnn"),
    "rcnn.faster_rcnn_small": Figures(3_113_334, 507_429_120, 3_117_302, quick=True, elsewhere="test_rcnn"),
    # Multiply-adds are those of one region.
    "rcnn.fast_rcnn": Figures(16_704_089, 13_609_772_032, 16_708_569, elsewhere="test_rcnn"),
    "rcnn.rcnn": Figures(16_704_089, 364_549_120, 16_708_569, elsewhere="test_rcnn"),
    "recurrent.gru": Figures(12_994, 1_198_208, small={"input_shape": (24, 2)}, quick=True),
    "recurrent.lstm": Figures(17_026, 1_597_568, small={"input_shape": (24, 2)}, quick=True),
    "resnet.resnet18": Figures(11_689_512, 1_814_073_344, 11_699_112),
    "resnet.resnet34": Figures(21_797_672, 3_663_761_408, 21_814_696),
    "resnet.resnet50": Figures(25_557_032, 3_857_973_248, 25_610_152),
    "resnet.resnet101": Figures(44_549_160, 7_570_194_432, 44_654_504),
    "resnet.resnet152": Figures(60_192_808, 11_282_415_616, 60_344_232),
    "resnet.plain18": Figures(11_515_688, 1_794_805_760, 11_523_496),
    "resnet.plain34": Figures(21_623_848, 3_644_493_824, 21_639_080),
    "resnet.resnet50_v1_5": Figures(25_557_032, 4_089_184_256, 25_610_152),
    "resnet.resnet101_v1_5": Figures(44_549_160, 7_801_405_440, 44_654_504),
    "resnet.resnet152_v1_5": Figures(60_192_808, 11_513_626_624, 60_344_232),
    "resnet.resnet50v2": Figures(25_568_360, 3_482_255_360, 25_613_800),
    "resnet.resnet101v2": Figures(44_577_896, 7_194_476_544, 44_675_560),
    "resnet.resnet152v2": Figures(60_236_904, 10_906_697_728, 60_380_648),
    "resnet.resnet20": Figures(269_722, 40_551_040, 271_098, quick=True),
    "resnet.resnet32": Figures(464_154, 68_862_592, 466_426),
    "resnet.resnet44": Figures(658_586, 97_174_144, 661_754),
    "resnet.resnet56": Figures(853_018, 125_485_696, 857_082),
    "resnet.resnet110": Figures(1_727_962, 252_887_680, 1_736_058),
    "resnet.plain20": Figures(269_722, 40_551_040, 271_098),
    "resnet.plain32": Figures(464_154, 68_862_592, 466_426),
    "resnet.plain44": Figures(658_586, 97_174_144, 661_754),
    "resnet.plain56": Figures(853_018, 125_485_696, 857_082),
    "resnet.plain110": Figures(1_727_962, 252_887_680, 1_736_058),
    "resnet.resnet20v2": Figures(272_282, 40_813_184, 273_658),
    "resnet.resnet56v2": Figures(855_578, 125_747_840, 859_642),
    "resnet.resnet110v2": Figures(1_730_522, 253_149_824, 1_738_618),
    "shortcuts.constant_scaling": Figures(1_727_962, 252_887_680, 1_736_058, small=EIGHT_LAYERS),
    "shortcuts.exclusive_gating": Figures(1_824_186, 266_781_312, 1_832_282, small=EIGHT_LAYERS),
    "shortcuts.shortcut_only_gating": Figures(1_824_186, 266_781_312, 1_832_282, small=EIGHT_LAYERS),
    "shortcuts.convolution_shortcut": Figures(1_826_202, 266_781_312, 1_838_330, small=EIGHT_LAYERS),
    "shortcuts.dropout_shortcut": Figures(1_727_962, 252_887_680, 1_736_058, small=EIGHT_LAYERS),
    "stacks.three_3x3": Figures(111_242, 346_817_152, quick=True),
    "stacks.one_7x7": Figures(201_354, 629_408_384),
    "ssd.ssd_mobilenet_v1": Figures(
        5_495_877, 3_136_259_840, 5_505_797, small={"input_shape": (64, 64, 3)}, elsewhere="test_ssd"
    ),
    "unet.on_backbone": Figures(14_241_061, 3_714_629_632, 14_252_645, elsewhere="test_unet"),
    "unet.unet": Figures(31_030_658, 150_428_424_448, small={"input_shape": (188, 188, 1)}, elsewhere="test_unet"),
    "unet.unet3d": Figures(19_069_955, 266_731_018_496, 19_074_627, small=SLAB, elsewhere="test_unet"),
    "unet.unet3d_small": Figures(286_867, 5_597_724_672, 287_395, quick=True, elsewhere="test_unet"),
    "unet.unet_small": Figures(481_762, 575_406_080, 483_170, quick=True, elsewhere="test_unet"),
    "stylize.transformer": Figures(1_677_638, 10_078_912_512, quick=True, elsewhere="test_stylize"),
    "vgg.vgg11": Figures(132_863_336, 7_609_090_048, small=NARROW),
    "vgg.vgg13": Figures(133_047_848, 11_308_466_176, small=NARROW),
    "vgg.vgg16": Figures(138_357_544, 15_470_264_320, small=NARROW),
    "vgg.vgg19": Figures(143_667_240, 19_632_062_464, small=NARROW),
    "yolo.yolo": Figures(14_913_597, 7_771_685_376, 14_928_957, elsewhere="test_yolo"),
    "yolo.yolo_small": Figures(1_183_470, 136_921_600, 1_188_014, quick=True, elsewhere="test_yolo"),
    "yolo.yolov2": Figures(50_655_389, 14_680_167_424, 50_676_061, elsewhere="test_yolo"),
    "yolo.yolov2_tiny": Figures(15_861_773, 3_485_520_896, 15_867_885, elsewhere="test_yolo"),
    "yolo.yolov3": Figures(61_949_149, 32_932_037_632, 62_001_757, elsewhere="test_yolo"),
    "yolo.yolov3_tiny": Figures(8_852_366, 2_782_480_896, 8_858_734, elsewhere="test_yolo"),
    "yolov1.fast_yolo": Figures(45_089_374, 2_418_728_960, small=GRID, elsewhere="test_yolov1"),
    "yolov1.yolov1": Figures(271_703_550, 20_285_153_280, small=GRID, elsewhere="test_yolov1"),
    "yolov1.yolov1_small": Figures(663_306, 174_758_400, 664_722, quick=True, elsewhere="test_yolov1"),
}
# What arguments do to the figures: (builder, arguments, figures).
VARIANTS = [
    ("alexnet.alexnet", {"groups": 1}, Figures(62_378_344, 1_135_256_096)),
    ("conv3d.c3d", {"classes": 101}, Figures(78_409_573, 38_547_378_176)),
    ("deepface.deepface", {"shared": True}, Figures(45_509_246, 517_624_448)),
    ("deepface.small", {"shared": True}, Figures(12_122, 100_960, quick=True)),
    ("googlenet.googlenet", {"auxiliary": True}, Figures(13_378_280, 1_591_044_096)),
    ("googlenet.googlenet", {"batch_norm": True}, Figures(7_005_832, 1_582_671_872, 7_020_392)),
    ("googlenet.googlenet", {"reductions": False}, Figures(97_526_008, 12_568_061_056)),
    ("lenet.lenet5_modern", {"batch_norm": True}, Figures(61_932, 416_520, 62_384, quick=True)),
    ("lenet.lenet5_modern", {"drop_connect": 0.5}, Figures(61_706, 416_520, quick=True)),
    ("resnet.resnet20", {"shortcut": "B"}, Figures(272_474, 40_813_184, 274_042, quick=True)),
    ("yolo.yolov2", {"input_shape": (608, 608, 3), "classes": 80}, Figures(50_962_889, 31_469_126_656, 50_983_561)),
    ("yolo.yolov2_tiny", {"classes": 80, "last": 512}, Figures(11_232_057, 2_703_221_248, 11_237_145)),
    ("vgg.vgg11", {"batch_norm": True}, Figures(132_866_088, 7_609_090_048, 132_871_592)),
]
SLOW = (pytest.mark.slow,)


def test_every_builder_of_the_catalogue_has_its_row():
    assert set(models.catalogue()) == set(TABLE)


@pytest.mark.parametrize(("name", "file"), [(name, row.elsewhere) for name, row in TABLE.items() if row.elsewhere])
def test_a_network_with_promises_of_its_own_is_in_their_file(name, file):
    assert f'"{name}"' in Path(__file__).with_name(f"{file}.py").read_text()


def counted():
    """All rows and variants, those of more than ten million parameters and those that are not quick as slow."""
    for name, arguments, figures in [(name, {}, figures) for name, figures in TABLE.items()] + VARIANTS:
        marks = () if figures.quick and figures.trainable < 10_000_000 else SLOW
        yield pytest.param(name, arguments, figures, marks=marks, id="-".join([name, *arguments]))


@pytest.mark.parametrize(("name", "arguments", "figures"), list(counted()))
def test_parameters_and_multiply_adds_are_those_of_the_table(name, arguments, figures):
    total = model_profile.totals(model_profile.rows(models.build(name, **arguments)))
    gc.collect()  # networks refer to themselves, and many large ones in a row would fill the memory
    assert total.trainable == figures.trainable
    assert total.parameters == (figures.total or figures.trainable)
    assert total.multiply_adds == figures.multiply_adds


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if row.quick else SLOW, id=name)
        for name, row in TABLE.items()
        if row.elsewhere is None
    ],
)
def case(request):
    """A small network, freshly initialised, with the arguments that made it; all its tests run in a row."""
    keras.utils.set_random_seed(0)
    arguments = {"input_shape": (32, 32, 3), "classes": 5, **TABLE[request.param].small}
    return models.build(request.param, **arguments), arguments


def images_for(arguments, count=4):
    return np.random.default_rng(0).normal(size=(count, *arguments["input_shape"])).astype("float32")


def test_images_become_float_logits(case):
    model, arguments = case
    logits = model(images_for(arguments))
    assert logits.shape == (4, arguments["classes"])
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert model.get_layer("logits").output is model.output


def test_a_saved_network_loads_and_answers_the_same(case, tmp_path):
    model, arguments = case
    images = images_for(arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_normalisation_is_that_of_the_library(case):
    model, _ = case
    assert [layer.name for layer in model._flatten_layers() if type(layer) is keras.layers.BatchNormalization] == []


def test_normalisation_names_its_weights_as_keras_does(case):
    model, _ = case
    keras_own = keras.Model.from_config(model.get_config())
    assert [(weight.path, weight.shape) for weight in model.weights] == [
        (weight.path, weight.shape) for weight in keras_own.weights
    ]


def test_every_weight_moves_after_one_step(case):
    model, arguments = case
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    model.train_on_batch(images_for(arguments), np.arange(4) % arguments["classes"])
    still = [
        weight.path
        for weight, old, new in zip(model.weights, before, model.get_weights(), strict=True)
        if np.array_equal(old, new)
    ]
    assert still == []
