from conftest_cli import folder, searched, tftas  # noqa: F401  (fixtures)
