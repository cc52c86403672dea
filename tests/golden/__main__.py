"""`make golden`: writes the golden files anew. Look at the difference before you commit it."""

import json

from pipeline.recipe.key_reference import key_reference
from tests.golden.contents import CONTENTS, KEYS, path_of, stored


def main() -> None:
    for name, compute in CONTENTS.items():
        path = path_of(name)
        contents = compute()
        is_same = path.exists() and stored(name) == contents
        path.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        print(f"{'same' if is_same else 'written':<8}{path.name}")
    KEYS.write_text(key_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
