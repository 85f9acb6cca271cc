"""How far a file's numbers may lie from what its reference gives, where both are right: measured on real files.

`tests/benchmarks/false_alarms.py` and `misses.py` hold them: a change of one must change neither.
"""

SLACK = 0.02
"""Steps: what float32 folding may add to the half step that rounding a weight makes."""
ROUNDED = 0.5 + 1e-3
"""Steps that rounding moves a weight by at most, where the step itself is known."""
BIAS_CODES = 1.0
"""Codes that a bias may be off: half by rounding, the rest by the float32 arithmetic of folding."""
MOVED_BIAS_CODES = 1.5
"""The same where the bias is in the unit of an input scale that was edited since."""
FLOAT32 = 2.0**-21
"""Relative error of what is folded in float32, next to the terms that it is the sum of."""
FLOAT_WEIGHTS = 1e-5
"""Relative error of weights that stay float32."""
FLOAT16_WEIGHTS = 1e-3
"""Relative error of weights that the file holds in half precision."""
FLOAT16_SMALLEST = 2.0**-24
"""Distance of the smallest numbers of half precision."""
SCALE_NOISE = 1e-6
"""Relative difference below which two scales are one: what folding in float32 leaves."""
SCALE_ULPS = 2.0**-22
"""Two units in the last place of a float32, relative: what conversion itself leaves of a scale."""
OTHER_SCALE = 1e-3
"""Relative difference from which on a scale, or a bias's product of two scales, is another one."""
