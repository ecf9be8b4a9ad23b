"""Checkpoints in Hugging Face's layout: names, transposes, sizes, and parity with the library that defines them."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.roberta_reference import roberta_reference
from xdeepint_ext.layers import RobertaEncoder
from xdeepint_ext.models.roberta_checkpoint import load_roberta

IDS = np.array([[0, 7, 8, 2, 2, 9, 2, 1], [0, 5, 2, 1, 1, 1, 1, 1]])
WIDTH, HIDDEN, LAYERS = 32, 64, 2


def make(**options):
    return RobertaEncoder.of_size("tiny", **{"vocab_size": 13, "max_positions": 12, "dropout": 0.0, **options})


@pytest.fixture
def tensors():
    """The tensors of a checkpoint of that size, by their public names."""
    shapes = {
        "embeddings.word_embeddings.weight": (13, WIDTH),
        "embeddings.position_embeddings.weight": (12, WIDTH),
        "embeddings.token_type_embeddings.weight": (1, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name, size in {
            "attention.self.query": (WIDTH, WIDTH),
            "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH),
            "attention.output.dense": (WIDTH, WIDTH),
            "attention.output.LayerNorm": (WIDTH,),
            "intermediate.dense": (HIDDEN, WIDTH),
            "output.dense": (WIDTH, HIDDEN),
            "output.LayerNorm": (WIDTH,),
        }.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = size
            shapes[f"encoder.layer.{layer}.{name}.bias"] = size[:1]
    random = np.random.default_rng(0)
    return {name: (0.3 * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def save(tmp_path):
    """Writes tensors as a safetensors file and gives its path."""
    numpy = pytest.importorskip("safetensors.numpy", reason="needs the extra qa")

    def write(tensors):
        path = tmp_path / "model.safetensors"
        numpy.save_file(tensors, path)
        return path

    return write


@pytest.mark.parametrize("prefix", ["roberta.", ""])
def test_every_tensor_finds_its_place(tensors, save, prefix):
    others = {"lm_head.dense.weight": np.ones((2, 2)), f"{prefix}pooler.dense.bias": np.ones(2)}
    encoder = make()
    load_roberta(encoder, save({**{f"{prefix}{name}": value for name, value in tensors.items()}, **others}))
    block = encoder.blocks[1]
    kernel, bias = (tensors[f"encoder.layer.1.intermediate.dense.{part}"] for part in ("weight", "bias"))
    np.testing.assert_array_equal(block.hidden.kernel, kernel.T)
    np.testing.assert_array_equal(block.hidden.bias, bias)
    np.testing.assert_allclose(encoder(IDS)[IDS != 1], roberta_reference(encoder, IDS)[IDS != 1], atol=1e-4)
    assert len(encoder.weights) == len(tensors)


def test_another_size_is_named(tensors, save):
    path = save(tensors)
    with pytest.raises(ValueError, match=r"another size: .*word_embeddings.* shape \(13, 32\).* wants \(14, 32\)"):
        load_roberta(make(vocab_size=14), path)
    with pytest.raises(ValueError, match="it has 2 layers, the encoder 3; it lacks"):
        load_roberta(make(num_layers=3), path)
    with pytest.raises(ValueError, match=r"intermediate.dense.weight has the shape \(64, 32\).* wants \(48, 32\)"):
        load_roberta(make(hidden_width=48), path)


def test_a_failed_load_changes_nothing(tensors, save):
    encoder = make(hidden_width=48)
    encoder(IDS)
    before = encoder.get_weights()
    with pytest.raises(ValueError):
        load_roberta(encoder, save(tensors))
    assert all(map(np.array_equal, before, encoder.get_weights()))


def test_other_files_are_refused(tmp_path, save):
    with pytest.raises(FileNotFoundError, match="checkpoint: no file"):
        load_roberta(make(), tmp_path / "none")
    path = save({"x": np.ones(3)})
    with pytest.raises(ValueError, match=r"has \['x'\] besides"):
        load_roberta(make(), path)
    path.write_text(json.dumps({}))
    with pytest.raises(ValueError, match="no safetensors file"):
        load_roberta(make(), path)


@pytest.mark.slow
def test_parity_with_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the reference is transformers >= 4.57, < 5")
    pytest.importorskip("safetensors", reason="needs the extra qa")
    if not hasattr(transformers, "TFRobertaModel"):
        pytest.skip("transformers 5 has no TensorFlow models")
    config = transformers.RobertaConfig(
        vocab_size=13,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=HIDDEN,
        max_position_embeddings=12,
        type_vocab_size=1,
        initializer_range=0.3,
        layer_norm_eps=1e-5,
    )
    reference = transformers.TFRobertaModel(config)
    expected = reference(IDS, attention_mask=(IDS != 1).astype(np.int32)).last_hidden_state.numpy()
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    numpy.save_file(_in_pytorch_s_layout(reference), path)
    encoder = make()
    load_roberta(encoder, path)
    np.testing.assert_allclose(encoder(IDS)[IDS != 1], expected[IDS != 1], rtol=1e-4, atol=1e-5)
    jitted = tf.function(encoder, jit_compile=True)
    np.testing.assert_allclose(jitted(tf.constant(IDS))[IDS != 1], expected[IDS != 1], rtol=1e-4, atol=1e-4)


def _in_pytorch_s_layout(model):
    """The TensorFlow model's weights under the names and transposes of the public checkpoints."""
    renamed = {"kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight", "bias": "bias"}
    found = {}
    for weight in model.weights:
        *path, last = weight.name.split(":")[0].split("/")
        path = path[path.index("roberta") :]
        last = "weight" if last == "weight" else renamed[last]
        name = ".".join(part.replace("layer_._", "layer.") for part in path)
        value = weight.numpy()
        transposed = name.endswith(("query", "key", "value", "dense")) and last == "weight"
        found[f"{name}.{last}"] = np.ascontiguousarray(value.T if transposed else value)
    return found
