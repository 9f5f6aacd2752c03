"""What tests ask about processes."""


def alive(pid):
    """Neither gone nor waiting for whoever inherited it to notice."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
