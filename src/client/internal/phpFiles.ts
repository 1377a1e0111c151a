/**
 * What is at a path of a directory that is shown to visitors. Links are followed to their end, and what is there is judged by its
 * real name as well as by the one that was asked for.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type { HttpPlatform } from "effect/http/HttpPlatform"
import type { HttpServerError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HttpStaticServer from "effect/http/HttpStaticServer"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import { isBelow, isHidden, isSource, toUrl } from "../../cgi/internal/phpPath.ts"

export interface DirectoryOptions {
  /** The directory. */
  readonly root: string
  /** Whether links may lead out of it. */
  readonly followSymlinks: boolean
  readonly extensions: ReadonlyArray<string>
  readonly deny: ReadonlyArray<string>
  readonly noScripts: ReadonlyArray<string>
  readonly mimeTypes?: Readonly<Record<string, string>> | undefined
  readonly cacheControl?: string | undefined
}

/** A directory that is looked into. */
export interface Directory {
  /** Its absolute path. */
  readonly root: string
  /** Where it really is. */
  readonly realRoot: string
  /** What is at a path, which begins with "/" and has no "..". */
  readonly find: (path: string) => Effect.Effect<Found, PlatformError>
  /** The file at a path, or the parts of it that the request asks for. Fails where it cannot be read. */
  readonly show: (
    request: HttpServerRequest.HttpServerRequest,
    path: string
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse, PlatformError | HttpServerError>
}

/** What is at a path. */
export type Found =
  | {
    readonly _tag: "File"
    /** Whether it is the source of a script, by its name or by the name that a link leads to. */
    readonly isSource: boolean
    /** Whether it may run, if it is a script. */
    readonly mayRun: boolean
  }
  | { readonly _tag: "Directory" }
  | { readonly _tag: "Nothing" }
  /** It is not for visitors: hidden, denied, or outside of the directory. */
  | { readonly _tag: "Refused" }

/**
 * Looks into a directory, which has to be there now. `find` fails for what is wrong with the file system, such as no permission or no
 * free descriptor; what is not there is `Nothing`.
 */
export const makeDirectory = Effect.fnUntraced(function*(
  options: DirectoryOptions
): Effect.fn.Return<Directory, PlatformError, FileSystem.FileSystem | Path.Path | HttpPlatform> {
  const fileSystem = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const root = path.resolve(options.root)
  let realRoot = yield* fileSystem.realPath(root)
  const { cacheControl, mimeTypes } = options
  const files = yield* HttpStaticServer.make({ root, index: undefined, cacheControl, mimeTypes: { ...mimeTypes } })

  /** The path below the root, with "/", or `undefined` outside of it. */
  const below = (real: string): string | undefined =>
    real === realRoot
      ? "/"
      : pathBelow(path, realRoot, real)

  const judge = (real: string, wanted: string): Effect.Effect<Found, PlatformError> => {
    const at = below(real)
    if (at === undefined ? !options.followSymlinks : isHidden(at) || isBelow(at, options.deny)) {
      return Effect.succeed({ _tag: "Refused" })
    }
    return Effect.map(fileSystem.stat(real), ({ type }): Found => {
      if (type === "Directory") return { _tag: "Directory" }
      if (type !== "File") return { _tag: "Nothing" }
      return {
        _tag: "File",
        isSource: isSource(wanted, options.extensions) || isSource(at ?? path.basename(real), options.extensions),
        mayRun: at === undefined || !isBelow(at, options.noScripts)
      }
    })
  }

  const find = (wanted: string): Effect.Effect<Found, PlatformError> =>
    fileSystem.realPath(root + wanted).pipe(
      Effect.flatMap((real) =>
        below(real) !== undefined
          ? judge(real, wanted)
          // The root itself may be a link that leads somewhere else by now, as releases of a site are switched.
          : Effect.flatMap(fileSystem.realPath(root), (now) => {
            realRoot = now
            return judge(real, wanted)
          })
      ),
      Effect.catchIf(isNothing, () => Effect.succeed<Found>({ _tag: "Nothing" }))
    )

  // The static server answers before the file is opened.
  const show: Directory["show"] = (request, wanted) =>
    Effect.andThen(
      fileSystem.access(root + wanted, { readable: true }),
      Effect.provideService(files, HttpServerRequest.HttpServerRequest, request.modify({ url: toUrl(wanted, "") }))
    )

  return { root, realRoot, find, show }
})

/** The path of what is in a directory, with "/", or `undefined` for what is not in it. */
export const pathBelow = (path: Path.Path, root: string, file: string): string | undefined =>
  file.startsWith(root.endsWith(path.sep) ? root : root + path.sep)
    ? "/" + path.relative(root, file).split(path.sep).join("/")
    : undefined

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// No such file, a file where a directory would have to be, a link that leads to itself; and a name that is too long, for which
// Effect has no word.
const isNothing = ({ reason }: PlatformError): boolean =>
  reason._tag === "NotFound" || reason._tag === "BadResource" || isTooLong(reason.cause)

const isTooLong = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENAMETOOLONG"
