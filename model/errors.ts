/** Mistakes in files and settings that the user can put right, as against faults of the program. */

/** Its message names the file or setting, what is there, and what was expected. */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly exitCode = 2;
}

/** A file-system error in plain words: "cannot read x: no such file". */
export function fileError(error: unknown, doing: string): UserError {
  const { code, message } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOENT: "there is no such file or folder",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EROFS: "the file system is read-only",
    ENOTDIR: "a part of the path is not a folder",
    EISDIR: "it is a folder, not a file",
    EEXIST: "a file of that name is in the way",
    ENOSPC: "the disk is full",
  };
  return new UserError(`${doing}: ${reasons[code ?? ""] ?? message}`, { cause: error });
}
