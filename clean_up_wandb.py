"""Delete old versions of models from a wandb project, which fill the account's storage.

  python clean_up_wandb.py --dry_run
  python clean_up_wandb.py --project sky-outpainting --entity my-team --yes

Of every artifact of type "model", the newest version is kept, and every version with an alias besides its number
("v3"), such as "best". The others are listed with their sizes, and deleted after a question. Deleted versions cannot
be restored. Models on this machine are not touched. A key is needed (`wandb login`).
"""
import argparse
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from log_and_save import WANDB_PROJECT, has_wandb_key
from utilities import UserError, command_parser, run_command, why

TYPE = "model"
NUMBER = re.compile(r"v(\d+)")


def old_versions(versions: Iterable[Any]) -> list[Any]:
    """Those versions of one artifact that can go: neither the newest nor with an alias other than its number.

    versions: objects with version ("v3") and aliases (list of str), in any order.
    """
    versions = sorted(versions, key=lambda each: int(each.version[1:]))
    return [each for each in versions[:-1] if all(NUMBER.fullmatch(alias) for alias in each.aliases)]


def find_old(api: Any, path: str) -> list[Any]:
    """The old versions of all models of a project, as wandb.Artifact. path: project, or entity/project. Raises
    UserError."""
    try:
        if TYPE not in [each.name for each in api.artifact_types(path)]:
            return []
    except ValueError:  # of an answer without a project
        raise UserError(f"there is no project {path} that this key can see: check --project and --entity.") from None
    collections = list(api.artifact_collections(path, TYPE))  # also those that only link to versions of others
    return [old for each in tqdm(collections, "models", unit="model", leave=False)
            for old in old_versions(each.artifacts()) if not old.is_link]


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--project", default=WANDB_PROJECT, metavar="NAME", help="project on wandb")
    parser.add_argument("--entity", metavar="NAME",
                        help="user or team that has the project (default: $WANDB_ENTITY, or that of the key)")
    parser.add_argument("--dry_run", action="store_true", help="list what would be deleted, and delete nothing")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    return parser


def main(args: argparse.Namespace) -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if not has_wandb_key():
        raise UserError("no wandb key is configured: run `wandb login` once.")
    path = f"{args.entity}/{args.project}" if args.entity else args.project
    try:
        old = find_old(wandb.Api(), path)
    except UserError:
        raise
    except Exception as error:  # of whatever kind
        raise UserError(f"wandb cannot be asked for the models of {path} ({why(error)}).") from None
    if not old:
        print(f"{path} has no old versions of models.")
        return
    for each in old:
        print(f"{each.name:<40} {each.size / 1e6:10.1f} MB  {each.created_at}")
    total = f"{len(old)} versions, {sum(each.size for each in old) / 1e6:.1f} MB"
    print(total)
    if args.dry_run:
        return
    if not args.yes and not confirmed(f"Delete these {len(old)} versions from {path}? [y/N] "):
        print("Nothing was deleted.")
        return
    kept = len(old) - delete(old)
    print(f"Deleted {len(old) - kept} of {len(old)} versions.")
    if kept:
        raise UserError(f"{kept} versions could not be deleted, for the reasons above.")


def delete(versions: list[Any]) -> int:
    """Delete versions; one that wandb refuses to delete, since it is used elsewhere or got an alias meanwhile, is said
    on stderr. Returns how many are deleted."""
    deleted = 0
    for each in tqdm(versions, "deleting", unit="version"):
        try:
            each.delete(delete_aliases=False)
            deleted += 1
        except Exception as error:  # of whatever kind
            tqdm.write(f"Kept {each.name}: {why(error)}", file=sys.stderr)
    return deleted


def confirmed(question: str) -> bool:
    """Whether the answer on standard input is yes. Raises UserError when there is none."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        raise UserError("nobody answers here, so nothing was deleted: give --yes to delete without a question."
                        ) from None


if __name__ == "__main__":
    run_command(main, build_parser())
