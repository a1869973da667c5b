from conftest_cli import folder, tftas  # noqa: F401  (fixtures)
