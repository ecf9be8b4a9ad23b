import sys

import pytest
import tensorflow as tf

from xdeepint_ext.utils import registry


class RegistryProbe(tf.keras.layers.Layer):
    pass


class NoConfig:
    pass


def registry_probe(x):
    return x


@pytest.fixture(autouse=True)
def own_tables(monkeypatch):
    """Keeps what these tests register out of the table that the conformance tests walk."""
    monkeypatch.setattr(registry, "PUBLIC", {})
    monkeypatch.setattr(sys.modules[__name__], "__all__", ["present"], raising=False)


def test_class_is_known_to_keras_and_public():
    assert registry.register(RegistryProbe) is RegistryProbe
    assert registry.PUBLIC == {f"{__name__}.RegistryProbe": RegistryProbe}
    assert sys.modules[__name__].__all__ == ["present", "RegistryProbe"]
    config = tf.keras.utils.serialize_keras_object(RegistryProbe(name="probe"))
    assert config["registered_name"] == "xdeepint_ext>RegistryProbe"
    assert isinstance(tf.keras.utils.deserialize_keras_object(config), RegistryProbe)


def test_function_is_public_and_unknown_to_keras(monkeypatch):
    monkeypatch.delattr(sys.modules[__name__], "__all__")
    assert registry.register(registry_probe) is registry_probe
    assert registry.PUBLIC == {f"{__name__}.registry_probe": registry_probe}
    assert sys.modules[__name__].__all__ == ["registry_probe"]
    assert tf.keras.utils.get_registered_object("xdeepint_ext>registry_probe") is None


def test_registering_again_changes_nothing():
    for _ in range(2):
        registry.register(RegistryProbe)
    assert sys.modules[__name__].__all__ == ["present", "RegistryProbe"]


def test_what_cannot_be_registered_is_refused():
    class Inner(tf.keras.layers.Layer):
        pass

    with pytest.raises(ValueError, match=r"top level of its module, got .*<locals>\.Inner"):
        registry.register(Inner)
    with pytest.raises(TypeError, match=r"get_config, and .*NoConfig has none"):
        registry.register(NoConfig)
    with pytest.raises(TypeError, match=r"a class or a function, got 3 of type int"):
        registry.register(3)
    assert registry.PUBLIC == {}


def test_second_class_of_the_same_keras_name_is_refused():
    registry.register(RegistryProbe)
    other = type("RegistryProbe", (tf.keras.layers.Layer,), {"__module__": "tests.utils"})
    with pytest.raises(ValueError, match=r"tests\.utils\.RegistryProbe has the Keras name of .*test_registry"):
        registry.register(other)
