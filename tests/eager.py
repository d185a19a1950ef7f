"""A script whose training steps are not traced, which takes longer than a few steps do: python eager.py SCRIPT"""
import runpy
import sys

from networks.backend import keras

COMPILE = keras.Model.compile
keras.Model.compile = lambda model, **options: COMPILE(model, run_eagerly=True, **options)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
