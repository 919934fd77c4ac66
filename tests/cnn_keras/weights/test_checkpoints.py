"""Files of weights by their content: PyTorch's without PyTorch, damaged ones, and ones that want to run something."""

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import h5py
import numpy as np
import pytest

from cnn_keras.errors import Fault
from cnn_keras.weights import checkpoints
from cnn_keras.weights.torch_tensors import MAGIC


class Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


class Tensor:
    """What pickles as PyTorch's tensors do: a call of torch._utils._rebuild_tensor_v2."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    zipped = True

    def persistent_id(self, thing):
        if not isinstance(thing, Storage):
            return None
        kind = "LongStorage" if thing.values.dtype == np.int64 else "FloatStorage"
        saved = ("storage", getattr(sys.modules["torch"], kind), thing.key, "cpu", len(thing.values))
        return saved if self.zipped else (*saved, None)


@pytest.fixture
def torch(monkeypatch):
    """Enough of PyTorch's names for a pickle to name them."""
    module, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in ("FloatStorage", "LongStorage"):
        setattr(module, kind, type(kind, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("reading must not call it")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2, module._utils = _rebuild_tensor_v2, inner
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)


def dumped(thing, *, zipped):
    out = io.BytesIO()
    pickler = Pickler(out, protocol=2)
    pickler.zipped = zipped
    pickler.dump(thing)
    return out.getvalue()


def save(path, thing, storages=(), *, zipped):
    """What torch.save writes, in the format since version 1.6 or in the one before."""
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", dumped(thing, zipped=True))
            for storage in storages:
                archive.writestr(f"net/data/{storage.key}", storage.values.tobytes())
        return path
    head = [pickle.dumps(part, protocol=2) for part in (MAGIC, 1001, {"little_endian": True})]
    keys = pickle.dumps([storage.key for storage in storages], protocol=2)
    data = [len(storage.values).to_bytes(8, "little") + storage.values.tobytes() for storage in storages]
    path.write_bytes(b"".join([*head, dumped(thing, zipped=False), keys, *data]))
    return path


FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickles"])


def network():
    """Tensors of a convolution, a depthwise one whose rows do not lie one after the other, a norm, a dense layer."""
    values = np.arange(200, dtype="float32")
    first, second, count = Storage("0", values), Storage("1", values + 1000), Storage("2", np.array([7]))
    tensors = OrderedDict(
        {
            "stem.weight": Tensor(first, 0, (4, 3, 2, 2), (12, 4, 2, 1)),
            "depth.weight": Tensor(second, 10, (4, 1, 2, 3), (1, 4, 4, 8)),
            "norm.weight": Tensor(first, 50, (4,), (1,)),
            "norm.bias": Tensor(first, 54, (4,), (1,)),
            "norm.running_mean": Tensor(first, 58, (4,), (1,)),
            "norm.running_var": Tensor(first, 62, (4,), (1,)),
            "norm.num_batches_tracked": Tensor(count, 0, (), ()),
            "head.bias": Tensor(first, 70, (2,), (1,)),
            "head.weight": Tensor(first, 80, (2, 4), (4, 1)),
        }
    )
    return tensors, (first, second, count)


@FORMATS
def test_tensors_of_pytorch_become_layers_of_keras(zipped, torch, tmp_path):
    tensors, storages = network()
    with checkpoints.open_checkpoint(save(tmp_path / "net.pth", tensors, storages, zipped=zipped)) as found:
        layers = {layer.name: layer.weights for layer in found.layers}
    assert list(layers) == ["stem", "depth", "norm", "head"]
    stem = np.arange(48, dtype="float32").reshape(4, 3, 2, 2)  # output, input, height, width
    np.testing.assert_array_equal(layers["stem"][0], stem.transpose(2, 3, 1, 0))
    assert layers["depth"][0].shape == (2, 3, 4, 1)
    assert layers["depth"][0][1, 2, 3, 0] == 1000 + 10 + 3 * 1 + 1 * 4 + 2 * 8
    assert [weight[0] for weight in layers["norm"]] == [50, 54, 58, 62]
    kernel, bias = layers["head"]
    np.testing.assert_array_equal(kernel, [[80, 84], [81, 85], [82, 86], [83, 87]])
    np.testing.assert_array_equal(bias, [70, 71])


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@FORMATS
@pytest.mark.parametrize(
    "malice",
    [
        pytest.param(lambda path: Call(os.system, f"touch {path}"), id="os.system"),
        pytest.param(lambda path: Call(eval, f"open({str(path)!r}, 'w')"), id="eval"),
        pytest.param(lambda path: Call(open, str(path), "w"), id="open"),
        pytest.param(lambda path: Call(getattr, {}, "keys"), id="getattr"),
    ],
)
def test_a_file_that_wants_to_run_something_is_refused_and_runs_nothing(malice, zipped, torch, tmp_path):
    tensors, storages = network()
    tensors["evil.weight"] = malice(tmp_path / "harm")
    path = save(tmp_path / "net.pth", tensors, storages, zipped=zipped)
    with (
        pytest.raises(Fault, match=r"net\.pth: it wants to run \w+\.\w+, which no file of weights"),
        checkpoints.open_checkpoint(path),
    ):
        pass
    assert not (tmp_path / "harm").exists()


def test_a_bare_pickle_is_refused_whatever_its_protocol_and_runs_nothing(tmp_path):
    for protocol in (2, 5):
        (tmp_path / "bad.h5").write_bytes(pickle.dumps(Call(os.system, f"touch {tmp_path}/harm"), protocol=protocol))
        with pytest.raises(Fault, match="wants to run"), checkpoints.open_checkpoint(tmp_path / "bad.h5"):
            pass
    (tmp_path / "bad.h5").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(Fault, match=r"none of PyTorch's"), checkpoints.open_checkpoint(tmp_path / "bad.h5"):
        pass
    assert not (tmp_path / "harm").exists()


@FORMATS
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(150, (100,), (1,)), (-1, (4,), (1,)), (0, (4, 4), (100, 1)), (3, (2, 2), (-1, 1)), (0, (2**40,), (0,))],
)
def test_a_tensor_that_leaves_its_storage_is_refused(offset, shape, strides, zipped, torch, tmp_path):
    storage = Storage("0", np.arange(200, dtype="float32"))
    path = save(tmp_path / "net.pth", {"a.weight": Tensor(storage, offset, shape, strides)}, [storage], zipped=zipped)
    with pytest.raises(Fault, match=r"a\.weight is larger than what the file holds"), checkpoints.open_checkpoint(path):
        pass


@FORMATS
@pytest.mark.parametrize("thing", [[1, 2], {"epoch": 3}, {"state_dict": {}}, 7], ids=str)
def test_what_is_no_mapping_of_names_to_tensors_is_refused(thing, zipped, torch, tmp_path):
    path = save(tmp_path / "net.pth", thing, zipped=zipped)
    with pytest.raises(Fault, match=r"save the model's state_dict\(\)"), checkpoints.open_checkpoint(path):
        pass


@FORMATS
def test_a_file_that_is_cut_off_is_refused_with_the_remedy(zipped, torch, tmp_path):
    tensors, storages = network()
    whole = save(tmp_path / "net.pth", tensors, storages, zipped=zipped).read_bytes()
    for share in (0.01, 0.2, 0.5, 0.8, 0.95):
        (tmp_path / "half.pth").write_bytes(whole[: int(len(whole) * share)])
        half = checkpoints.open_checkpoint(tmp_path / "half.pth")
        with pytest.raises(Fault, match=r"half\.pth.*delete it and download it again") as fault, half:
            pass
        assert fault.value.code == Fault.DATA


def test_a_half_downloaded_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file.create_group("conv").attrs["weight_names"] = [b"kernel"]
        file["conv/kernel"] = np.zeros((64, 64))
    whole = (tmp_path / "whole.h5").read_bytes()
    with checkpoints.open_checkpoint(tmp_path / "whole.h5") as found:
        assert [layer.name for layer in found.layers] == ["conv"]
    for length in (0, 6, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "half.h5").write_bytes(whole[:length])
        with pytest.raises(Fault, match=r"half\.h5.*delete it"), checkpoints.open_checkpoint(tmp_path / "half.h5"):
            pass


def test_long_lists_of_layers_which_keras_cuts_up_are_put_together(tmp_path):
    names = [f"layer{number}" for number in range(25)]
    with h5py.File(tmp_path / "long.h5", "w") as file:
        for piece in range(13):
            file.attrs[f"layer_names{piece}"] = [name.encode() for name in names[2 * piece : 2 * piece + 2]]
        for name in names:
            file.create_group(name).attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            file[f"{name}/{name}/kernel:0"] = np.zeros(1)
    with checkpoints.open_checkpoint(tmp_path / "long.h5") as found:
        assert [layer.name for layer in found.layers] == names


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"GIF89a", b"\x89HDF\r\n\x1a\n"])
def test_anything_else_is_refused(content, tmp_path):
    (tmp_path / "odd.h5").write_bytes(content)
    with pytest.raises(Fault, match=r"must be a whole \.weights\.h5"), checkpoints.open_checkpoint(tmp_path / "odd.h5"):
        pass
    with pytest.raises(Fault, match="which is none"), checkpoints.open_checkpoint(tmp_path):
        pass


def test_layers_of_keras_3_come_in_their_numbers_order_without_the_optimiser_and_the_seeds(tmp_path):
    with h5py.File(tmp_path / "subclassed.weights.h5", "w") as file:
        for owner, name in {
            "optimizer": "adam",
            "layers/dropout/seed_generator": "seed_generator",
            "block/layers/conv2d_10": "last",
            "block/layers/conv2d_2": "middle",
            "block/layers/conv2d": "first",
        }.items():
            group = file.create_group(f"{owner}/vars")
            group.attrs["name"] = name
            group["0"] = np.zeros(3)
        file.create_group("block/layers/re_lu/vars").attrs["name"] = "relu"
    with checkpoints.open_checkpoint(tmp_path / "subclassed.weights.h5") as found:
        assert [(layer.name, layer.kind) for layer in found.layers] == [
            ("first", "conv2d"),
            ("middle", "conv2d"),
            ("last", "conv2d"),
        ]
