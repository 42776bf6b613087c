"""Smoothing guided by an image: the graph Laplacian filter of Zhang et al. 2019, section 3.

`Smoother` is the filter, `SmoothingParams` the parameters of an attack that uses it. Below it: the pixel `graph`, and
two ways to solve the linear system of equation 8, by `elimination` and by `conjugate_gradients`.
"""

from charpy.smoothing.graph import Kernel
from charpy.smoothing.smoother import ZHANG, Smoother, SmoothingParams, Solver

__all__ = ["ZHANG", "Kernel", "Smoother", "SmoothingParams", "Solver"]
