"""stub for now"""


def write_page(result, path) -> None:
    """x"""
