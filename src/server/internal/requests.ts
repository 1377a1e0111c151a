/**
 * The requests that handlers see, over those of the connection: views without state of their own.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { contentLength } from "../../cgi/CgiRequest.ts"
import type { InputStream } from "../../connection/internal/inputStream.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import type { ApacheRole, Authorizer, Filter, RequestBase, Responder } from "../FastCgiRequest.ts"
import { FastCgiRequestError } from "../FastCgiRequestError.ts"
import type { AbortReason, ApplicationRequest } from "./applicationRequest.ts"
import type { BodyLimit } from "./bodyLimit.ts"

type Input = InputStream<FastCgiRequestError>

const encoder = new TextEncoder()

/** The members of requests of all roles. */
export class RequestImpl implements RequestBase {
  protected readonly request: ApplicationRequest

  constructor(request: ApplicationRequest) {
    this.request = request
  }

  /** The request of the connection. */
  get application(): ApplicationRequest {
    return this.request
  }

  get connectionId() {
    return this.request.owner.id
  }

  get requestId() {
    return this.request.requestId
  }

  get keepConnection() {
    return this.request.keepConnection
  }

  get peer() {
    return this.request.owner.transport.peer
  }

  get params() {
    return this.request.params
  }

  /** Why the request has been given up. */
  get givenUpFor(): AbortReason | undefined {
    return this.request.reason
  }

  stderr(text: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.request.stderr(encoder.encode(text))
      return this.request.room
    })
  }
}

/** The members of requests that have a body, which is limited (`maxBodySize`). */
class RequestWithBody extends RequestImpl {
  private readonly bodyLimit: BodyLimit

  constructor(request: ApplicationRequest, bodyLimit: BodyLimit) {
    super(request)
    this.bodyLimit = bodyLimit
  }

  get stdin(): Stream.Stream<Uint8Array, FastCgiRequestError> {
    return this.limited(this.stdinPull)
  }

  /** STDIN to its end, whatever CONTENT_LENGTH says. */
  get wholeStdin(): Stream.Stream<Uint8Array, FastCgiRequestError> {
    return this.limited(this.request.stdin!.pull)
  }

  /** The pull that `stdin` is made of, without the limit. */
  get stdinPull(): Input["pull"] {
    return inputOf(this.request.stdin!, contentLength(this.params), "CONTENT_LENGTH")
  }

  private limited(pull: Input["pull"]): Stream.Stream<Uint8Array, FastCgiRequestError> {
    return this.bodyLimit.apply(Stream.fromPull(Effect.succeed(pull)), this.params)
  }
}

/** A request of the role Responder. */
export class ResponderImpl extends RequestWithBody implements Responder {
  readonly role = Role.Responder
}

/** A request of the role Authorizer. */
export class AuthorizerImpl extends RequestImpl implements Authorizer {
  readonly role = Role.Authorizer

  get apacheRole(): Option.Option<ApacheRole> {
    const role = this.params.get("FCGI_APACHE_ROLE")
    return role === "AUTHENTICATOR" || role === "AUTHORIZER" || role === "ACCESS_CHECKER"
      ? Option.some(role)
      : Option.none()
  }
}

/** A request of the role Filter. */
export class FilterImpl extends RequestWithBody implements Filter {
  readonly role = Role.Filter
  // STDERR of the handler from before all of STDIN had come.
  private early = ""

  /** Waits until all of STDIN has come: a Filter writes nothing before that (SPEC 6.4). What is unread is dropped. */
  get ready(): Effect.Effect<void> {
    return Effect.andThen(this.request.stdin!.skip(stdinLeft), Effect.suspend(() => this.stderr("")))
  }

  override stderr(text: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.request.stdin!.isComplete) {
        this.early += text
        return Effect.void
      }
      const all = this.early + text
      this.early = ""
      return super.stderr(all)
    })
  }

  /** DATA to its end, whatever FCGI_DATA_LENGTH says. */
  get wholeData(): Stream.Stream<Uint8Array, FastCgiRequestError> {
    return Stream.fromPull(Effect.succeed(this.request.data!.pull))
  }

  get data(): Stream.Stream<Uint8Array, FastCgiRequestError> {
    const length = Option.getOrUndefined(this.dataLength)
    return Stream.fromPull(Effect.succeed(inputOf(this.request.data!, length, "FCGI_DATA_LENGTH")))
  }

  get dataLength(): Option.Option<number> {
    return number(this.params.get("FCGI_DATA_LENGTH"))
  }

  get dataLastModified(): Option.Option<number> {
    return number(this.params.get("FCGI_DATA_LAST_MOD"))
  }
}

const stdinLeft = () =>
  new FastCgiRequestError({
    reason: { _tag: "InputDiscarded" },
    message: "a Filter answers when all of stdin has come, and its handler has not read it before it returned"
  })

const number = (text: string | undefined): Option.Option<number> =>
  text !== undefined && /^\d{1,15}$/.test(text) ? Option.some(Number(text)) : Option.none()

const inputOf = (input: Input, length: number | undefined, variable: string): Input["pull"] => {
  if (length !== undefined) {
    input.expect(length, () =>
      new FastCgiRequestError({
        reason: { _tag: "TruncatedBody" },
        message: `the input ended before the ${length} bytes that ${variable} announces`
      }))
  }
  return input.pull
}

/** The request of the connection that is behind one that a handler sees. */
export const applicationRequestOf = (request: unknown): ApplicationRequest | undefined =>
  request instanceof RequestImpl ? request.application : undefined
