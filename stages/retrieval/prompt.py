"""What the agent's model is asked when it chooses its hints itself (`hints.retrieval: llm`)."""

SYSTEM = (
    "Before a task begins, you choose the hints that will help with it. You are shown the task and a numbered list of hints. "
    "Reply with numbers alone."
)
QUESTION = """\
The task: {goal}

What is seen first:
{opening}

The hints:
{hints}

Which of these hints help with this very task? Reply with at most {k} numbers from 1 to {n}, the most useful hint first, with commas between \
them. Reply 0 if none of them helps."""
