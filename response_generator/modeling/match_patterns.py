"""A program that matches regular expressions against names, in a process of its own: Python cannot stop a match in this
one, and a pattern such as `(.+)+x` takes hours.

Reads `{"patterns": [[function of re, pattern], ...], "names": [name, ...]}` from stdin, and prints one line for each
pattern when it was matched against all names: empty, or why it is no regular expression.
"""

import json
import re
import sys

if __name__ == "__main__":
    question = json.load(sys.stdin)
    for function, pattern in question["patterns"]:
        reason = ""
        try:
            compiled = re.compile(pattern)
            for name in question["names"]:
                getattr(compiled, function)(name)
        except (re.error, RecursionError, OverflowError) as error:
            reason = str(error)
        print(json.dumps(reason), flush=True)
