"""What a page shows of a cell's outputs, whether it is the page beside the notebook or one of the site."""

import nbformat


def one_progress(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return a cell's outputs with all lines of progress in one, where the first stood."""
    lines = [output for output in outputs if output.get("name") == "stderr"]
    if not lines:
        return outputs
    together = nbformat.v4.new_output("stream", name="stderr", text="".join(line.text for line in lines))
    kept = [together if output is lines[0] else output for output in outputs]
    return [output for output in kept if output is together or output.get("name") != "stderr"]
