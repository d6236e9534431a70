"""One execution, from request to result; knows nothing of environments' names or how they are made."""
