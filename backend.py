"""Keras, imported without the greetings that its backends' C++ libraries print while they load."""
import os
import sys
from contextlib import contextmanager


@contextmanager
def quiet_stderr():
    """Drop what is written to file descriptor 2, which Python's own sys.stderr does not control."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with quiet_stderr():
    import keras
    from keras import layers, ops

__all__ = ["compiled", "keras", "layers", "ops", "quiet_stderr"]


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
