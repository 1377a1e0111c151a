/**
 * The messages between a supervisor and its workers, over the channel that Node opens to a child process. A socket goes
 * beside the message that speaks of it.
 */
import * as Schema from "effect/Schema"
import type * as ChildProcess from "node:child_process"
import { SupervisorStatus } from "../../../server/FastCgiWorkers.ts"
import type { BindInetOptions } from "../inetSocket.ts"
import type { BindUnixOptions } from "../unixSocket.ts"

/** The address on which a worker wants to listen. `fd` is a descriptor of the supervisor. */
export const ListenOn = Schema.Union([
  Schema.TaggedStruct("Path", {
    path: Schema.String,
    mode: Schema.optionalKey(Schema.Int),
    user: Schema.optionalKey(Schema.Union([Schema.String, Schema.Number])),
    group: Schema.optionalKey(Schema.Union([Schema.String, Schema.Number])),
    backlog: Schema.Int,
    unlink: Schema.Boolean
  }),
  Schema.TaggedStruct("Port", {
    host: Schema.String,
    port: Schema.Int,
    ipv6Only: Schema.Boolean,
    backlog: Schema.Int
  }),
  Schema.TaggedStruct("Fd", { fd: Schema.Int })
])

export type ListenOn = Schema.Schema.Type<typeof ListenOn>

/** A path to listen on. */
export const onPath = ({ backlog, mode, owner, path, unlink }: BindUnixOptions): ListenOn => ({
  _tag: "Path",
  path,
  backlog,
  unlink,
  ...(mode === undefined ? {} : { mode }),
  ...(owner?.user === undefined ? {} : { user: owner.user }),
  ...(owner?.group === undefined ? {} : { group: owner.group })
})

/** A port to listen on. */
export const onPort = (options: BindInetOptions): ListenOn => ({ _tag: "Port", ...options })

/** A descriptor of the supervisor to listen on. */
export const onFd = (fd: number): ListenOn => ({ _tag: "Fd", fd })

/** How a worker is, for its supervisor: see `WorkerStatus`. */
export const Figures = Schema.Struct({
  requests: Schema.Number,
  requestsOpen: Schema.Number,
  connections: Schema.Number,
  memory: Schema.Number,
  eventLoopDelay: Schema.Number,
  cpu: Schema.Number
})

export interface Figures extends Schema.Schema.Type<typeof Figures> {}

const id = Schema.Int

/** A message of a worker. `id` belongs to the worker's question, or to the supervisor's question that it answers. */
export const FromWorker = Schema.Union([
  // A socket is asked for; it has come and is listened on, or can not be.
  Schema.TaggedStruct("Listen", { id, on: ListenOn }),
  Schema.TaggedStruct("Listening", { id }),
  Schema.TaggedStruct("NotListening", { id, reason: Schema.String, message: Schema.String }),
  // Which sockets has systemd passed? `name` leaves out the others.
  Schema.TaggedStruct("Passed", { id, name: Schema.optionalKey(Schema.String) }),
  // It serves.
  Schema.TaggedStruct("Ready", {}),
  // Once a second, and when it has taken as many requests as it should.
  Schema.TaggedStruct("Alive", { figures: Figures }),
  // Asks for the other workers' reports on a topic, and for the supervisor's figures.
  Schema.TaggedStruct("Ask", { id, topic: Schema.String }),
  Schema.TaggedStruct("Status", { id }),
  Schema.TaggedStruct("Report", { id, value: Schema.optionalKey(Schema.Json) })
])

export type FromWorker = Schema.Schema.Type<typeof FromWorker>

/** Where a shared socket is bound. */
export const SharedAddress = Schema.Union([
  Schema.TaggedStruct("Path", { path: Schema.String }),
  Schema.TaggedStruct("Inet", { host: Schema.String, port: Schema.Int }),
  // The worker sees what it got.
  Schema.TaggedStruct("Inherited", {})
])

export type SharedAddress = Schema.Schema.Type<typeof SharedAddress>

/** A message of a supervisor. `id` belongs to the worker's question that it answers, or to its own question. */
export const FromSupervisor = Schema.Union([
  // With the socket; then, when it has its name.
  Schema.TaggedStruct("Socket", { id }),
  Schema.TaggedStruct("Bound", { id, address: SharedAddress }),
  Schema.TaggedStruct("Sockets", {
    id,
    sockets: Schema.Array(Schema.Struct({ fd: Schema.Int, name: Schema.String }))
  }),
  Schema.TaggedStruct("Failed", { id, reason: Schema.String, message: Schema.String }),
  Schema.TaggedStruct("Report", { id, topic: Schema.String }),
  Schema.TaggedStruct("Reports", {
    id,
    reports: Schema.Array(Schema.Struct({ worker: Schema.Int, value: Schema.Json }))
  }),
  Schema.TaggedStruct("Status", { id, status: SupervisorStatus })
])

export type FromSupervisor = Schema.Schema.Type<typeof FromSupervisor>

/** The environment variable that makes a process a worker: its place, and how many requests it should take at most. */
export const workerVariable = "EFFECT_FASTCGI_WORKER"

/** How the channel's messages are told from those of the app. */
const key = "effect-fastcgi"

export const wrap = (message: FromWorker | FromSupervisor): ChildProcess.Serializable => ({ [key]: message })

export const unwrap = (message: unknown): unknown =>
  typeof message === "object" && message !== null && key in message ? message[key] : undefined
