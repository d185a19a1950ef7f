"""Keras, imported without the greetings that its backends' C++ libraries print while they load."""
import os

from utilities import quiet_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with quiet_stderr():
    import keras
    from keras import layers, ops

__all__ = ["compiled", "keras", "layers", "ops"]


def compiled(model, function):
    """function(*arrays) that calls model, as one graph of the backend; variables are read anew at every call."""
    if keras.backend.backend() == "jax":
        import jax

        def stateless(values, *arrays):
            with keras.StatelessScope(state_mapping=zip(model.variables, values, strict=True)):
                return function(*arrays)

        graph = jax.jit(stateless)
        return lambda *arrays: graph([variable.value for variable in model.variables], *arrays)

    import tensorflow as tf

    return tf.function(function, reduce_retracing=True)
