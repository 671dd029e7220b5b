"""Cross-checks of `doctor.*`."""

from pathlib import Path

from dpo.config.doctor import CHECKS, DoctorConfig


def doctor_problems(doctor: DoctorConfig) -> list[str]:
    """One line per problem, with the setting to change."""
    problems = [
        f"doctor.checks has {name}: no such check. Checks: {', '.join(CHECKS)}"
        for name in doctor.checks
        if name not in CHECKS
    ]
    if doctor.json not in (None, "-") and not Path(doctor.json).absolute().parent.is_dir():
        problems.append(f"doctor.json={doctor.json}: there is no folder {Path(doctor.json).absolute().parent}")
    return problems
