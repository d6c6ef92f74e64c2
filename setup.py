"""Build a package that carries its suites, committed records and reference reports inside `benchmark`.

All other settings of the package are in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("suites", "results", "reports/mini-cifar100")  # not all of reports/, where a user's reports are written too


class WithShipped(build_py):
    """A build step that copies the folders of benchmark/machine/shipped.py. Editable installations need no copies."""

    def run(self) -> None:
        """Copy the packages, then the folders in SHIPPED."""
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                target = Path(self.build_lib, "benchmark", "shipped", name)
                shutil.rmtree(target, ignore_errors=True)  # of an earlier build: it may hold files that are gone
                shutil.copytree(name, target, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": WithShipped})
