"""The 2021 experiment: float, QAT and TFLite model end to end, and what it could not say: layer by layer.

Trains on the digits that come with scikit-learn; `data="mnist"` is the experiment as it was.
"""

import qdebug

run = qdebug.trace_builtin("dense4", data="digits", seed=3)

for one in run.end_to_end:
    print(f"{one.name}: max error {one.max_error:.4g}, not close {one.not_close_percent:.2f} %")
for row in run.layers:
    print(f"{row.layer}: {row.verdict}, local flips {row.local.flip_percent:.3f} %, at most {row.local.max_lsb} LSB")
print(run)
