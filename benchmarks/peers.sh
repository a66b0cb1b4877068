#!/usr/bin/env bash
# .venv-peers: the rivals that the benchmarks run beside basewise, in an environment of their own.
#
# Their many dependencies stay out of basewise's own environment; the benchmarks talk to them through JSON files
# (benchmarks/peer_*.py). torch is the same version on both sides. A stamp makes a second run free.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv-peers/.installed
if [ -f "$stamp" ] && [ "$stamp" -nt "$0" ]; then exit 0; fi
python=.venv/bin/python
[ -x "$python" ] || { echo "run make test first: $python is missing" >&2; exit 2; }
[ -x .venv-peers/bin/python ] || "$python" -m venv .venv-peers
torch=$(grep '^torch==' constraints.txt)
.venv-peers/bin/python -m pip install --disable-pip-version-check --progress-bar off \
  "$torch" setfit==1.2.0 transformer-ranker==0.2.0 sentence-transformers psutil scikit-learn \
  "lm-eval[hf]==0.4.13" onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 openvino==2026.4.1
.venv-peers/bin/python - <<'PY'
import importlib.metadata as m
print({name: m.version(name) for name in ("torch", "transformers", "sentence-transformers", "setfit", "transformer-ranker", "lm-eval")})
PY
touch "$stamp"
