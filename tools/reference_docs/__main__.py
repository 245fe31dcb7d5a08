"""`python -m tools.reference_docs`: write pages and tables of docs/ from the code."""

from tools.reference_docs.pages import write

if __name__ == "__main__":
    write()
