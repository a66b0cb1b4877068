"""Files that start a planned run elsewhere: a Slurm script, a SkyPilot task, or a plain torchrun line for each node.

They call the same `basewise pretrain` on every rank. A rank that is lost ends the attempt; torchrun and Slurm start it again, and it
goes on from the last checkpoint. Only what a recipe describes can be emitted, because only that can be run.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from basewise.core.errors import InputError, UnknownName
from basewise.core.files import write_text
from basewise.engine.device import machine
from basewise.steps.plan import Planned

FILES = {"slurm": "{name}.sbatch", "skypilot": "{name}.sky.yaml", "torchrun": "{name}.sh"}
RESTARTS = 3
SLACK = 1.2
"""Time asked of a scheduler, over what is predicted."""
PORT = 29500
GPU_CORES = 8
"""Processor cores asked for each GPU rank; nodes of eight GPUs have 64 or more."""


def emit(planned: Planned, form: str, folder: Path) -> Path:
    """Write the file of one form; its path. InputError where the plan is not of a recipe."""
    if form not in FILES:
        raise UnknownName.of("form", form, FILES)
    wanted = planned.wanted
    if not wanted.recipe:
        raise InputError("--emit came without a recipe", "write the settings into a recipe and plan that one")
    per_node = min(planned.ranks, planned.machine.per_node)
    nodes = math.ceil(planned.ranks / per_node)
    if nodes * per_node != planned.ranks:
        raise InputError(
            f"{planned.ranks} ranks do not fill nodes of {per_node}", f"use {nodes * per_node} ranks"
        )
    text = {"slurm": _slurm, "skypilot": _skypilot, "torchrun": _torchrun}[form](planned, nodes, per_node)
    path = folder / FILES[form].format(name=wanted.name)
    write_text(path, text)
    return path


def _head(p: Planned) -> str:
    """What the file is for, as comments."""
    return (
        f"# basewise plan: {p.wanted.name} on {p.ranks} x {p.machine.name}: about {p.seconds / 3600:.1f} hours,"
        f" {p.flop:.2g} FLOP, {sum(p.memory.values()) / 1e9:.1f} GB a rank.\n"
        "# The same command goes on from the last checkpoint.\n"
    )


def _command(p: Planned) -> str:
    return f"-m basewise pretrain {shlex.quote(p.wanted.recipe)} --to {shlex.quote('runs/' + p.wanted.name)}"


def _slurm(p: Planned, nodes: int, per_node: int) -> str:
    minutes = math.ceil(p.seconds * SLACK / 60) + 10
    clock = f"{minutes // 60:02d}:{minutes % 60:02d}:00"
    cuda = p.machine.device == "cuda"
    gpus = f"#SBATCH --gpus-per-node={per_node}\n" if cuda else ""
    # One task starts all ranks of a node. Without this it gets one core for them all; srun does not take it from sbatch by itself.
    cores = per_node * GPU_CORES if cuda else max(per_node, machine().cores)
    return (
        "#!/bin/bash\n"
        f"#SBATCH --job-name={p.wanted.name}\n#SBATCH --nodes={nodes}\n#SBATCH --ntasks-per-node=1\n"
        f"#SBATCH --cpus-per-task={cores}\n{gpus}"
        f"#SBATCH --time={clock}\n#SBATCH --requeue\n#SBATCH --output=%x-%j.log\n#SBATCH --open-mode=append\n"
        f"{_head(p)}set -euo pipefail\n"
        'hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")\n'
        f'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun --nnodes={nodes} --nproc-per-node={per_node} \\\n'
        f"  --max-restarts={RESTARTS} \\\n"
        f'  --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="${{hosts%%[[:space:]]*}}:{PORT}" \\\n'
        f"  {_command(p)}\n"
    )


def _accelerator(title: str) -> str:
    """The second word of "NVIDIA H100 SXM", as SkyPilot calls it."""
    words = title.split()
    if len(words) < 2:
        raise InputError(
            f"SkyPilot asks for an accelerator by its name, and this hardware is titled {title!r}",
            'give it a title such as "NVIDIA H100 SXM" in the hardware file',
        )
    return words[1]


def _skypilot(p: Planned, nodes: int, per_node: int) -> str:
    kind = _accelerator(p.machine.name) if p.machine.device == "cuda" else ""
    memory = "-80GB" if kind == "A100" else ""
    wants = f"  accelerators: {kind}{memory}:{per_node}\n" if kind else "  cpus: 2+\n"
    command = "".join(
        f"  {line}\n"
        for line in (
            'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)',
            f"torchrun --nnodes={nodes} --nproc-per-node={per_node} --node-rank=$SKYPILOT_NODE_RANK \\",
            f"  --max-restarts={RESTARTS} --master-addr=$head --master-port={PORT} \\",
            f"  {_command(p)}",
        )
    )
    # the name is quoted: YAML reads some as numbers, or as true and false
    return (
        f'{_head(p)}name: "{p.wanted.name}"\n'
        f"workdir: .\nnum_nodes: {nodes}\nresources:\n{wants}  use_spot: false\n"
        f"setup: |\n  pip install .\nrun: |\n{command}"
    )


def _torchrun(p: Planned, nodes: int, per_node: int) -> str:
    if nodes == 1:
        where = f"--standalone --nproc-per-node={per_node}"
    else:
        where = (
            f"--nnodes={nodes} --nproc-per-node={per_node} --rdzv-backend=c10d --rdzv-id={p.wanted.name} \\\n"
            f'  --rdzv-endpoint="${{HEAD:?name of the first node}}:{PORT}"'
        )
    return f"#!/bin/bash\n{_head(p)}set -euo pipefail\ntorchrun {where} --max-restarts={RESTARTS} \\\n  {_command(p)}\n"
