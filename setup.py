"""Build a package that carries its suites, committed records and reference reports inside `benchmark`.

Everything else about the package is said in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("suites", "results", "reports/mini-cifar100")  # reports/ holds a user's own as well


class WithShipped(build_py):
    """Copies what benchmark/machine/shipped.py looks for. An editable installation finds it in the checkout."""

    def run(self) -> None:
        """Copy the packages, then the folders that go with them."""
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                target = Path(self.build_lib, "benchmark", "shipped", name)
                shutil.rmtree(target, ignore_errors=True)  # of an earlier build: it may hold files that are gone
                shutil.copytree(name, target, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": WithShipped})
