/**
 * The two load generators and what they say of one measurement.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { cpuSeconds, output } from "./processes.ts"

const folder = fileURLToPath(new URL("..", import.meta.url))

/** Of all requests of a measurement, in microseconds. */
export interface Latency {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly p999: number
}

/** Replies a request is counted by are checked: status, length, and the text where it is short. */
export interface Sample {
  readonly requests: number
  /** Requests answered correctly in a second. */
  readonly rate: number
  /** CPU of the server process, microseconds a request. */
  readonly cpu: number
  readonly latency: Latency
  /** Requests that failed, or were answered wrongly, or broke the protocol. */
  readonly errors: number
  /** Which errors, for a person. */
  readonly complaint: string
}

export interface Workload {
  readonly name: string
  readonly path: "/bench/hello" | "/bench/upload" | "/bench/download" | "/bench/stream"
  readonly connections: number
  /** Requests in flight on each connection. */
  readonly multiplex: number
  readonly keepConnection: boolean
  /** Bytes of request body. */
  readonly body: number
  readonly expect: { readonly body: string } | { readonly bytes: number }
  /**
   * Whether the load generator never sleeps. One that sleeps makes a server pay for waking it: the slower the server, the more often.
   * wrk has no such way.
   */
  readonly polling?: boolean
  /** Measures a server from its start on, for this many seconds, instead of when it is warm. */
  readonly fromStart?: number
}

/** How long a measurement takes, in seconds. */
export interface Duration {
  readonly seconds: number
  /** Before that, on the same connections. */
  readonly warmUp: number
}

const compile = async (
  file: string,
  parts: ReadonlyArray<string>,
  name: string,
  command: (source: string, target: string) => Array<string>
) => {
  const source = Path.join(folder, file)
  const target = Path.join(folder, "../.bench", name)
  const built = Fs.statSync(target, { throwIfNoEntry: false })?.mtimeMs
  if (built === undefined || [source, ...parts].some((path) => built < Fs.statSync(path).mtimeMs)) {
    Fs.mkdirSync(Path.dirname(target), { recursive: true })
    const [program, ...args] = command(source, target)
    await output(program!, args)
  }
  return target
}

/** Compiles fcgi-load.c unless that has been done since it or its parts were changed, and returns the program's path. */
export const compileGenerator = (): Promise<string> => {
  const parts = Path.join(folder, "fcgi-load")
  return compile(
    "fcgi-load.c",
    Fs.readdirSync(parts).map((file) => Path.join(parts, file)),
    "fcgi-load",
    (source, target) => ["cc", "-O2", "-Wall", "-Wextra", "-o", target, source]
  )
}

/** The same for the server in Go. */
export const compileGo = (go: string): Promise<string> =>
  compile("servers/goFcgi.go", [], "goFcgi", (source, target) => [go, "build", "-o", target, source])

interface Report {
  readonly good: number
  readonly errors: number
  readonly violations: number
  readonly seconds: number
  readonly p50_us: number
  readonly p90_us: number
  readonly p99_us: number
  readonly p999_us: number
  readonly server_cpu_us_per_request: number
  readonly [counter: string]: number | string
}

// What fcgi-load counts as an error of a request or as a breach of the protocol.
const counters = [
  "connect_failed",
  "connect_backlog_full",
  "eof_before_reply",
  "eof_in_reply",
  "reset",
  "unfinished",
  "bad_version",
  "unexpected_type",
  "unknown_id",
  "data_after_end",
  "data_after_stdout_eof",
  "bad_end_length",
  "protocol_status",
  "truncated_head",
  "bad_status",
  "bad_body_length",
  "bad_body",
  "no_close"
]

/** FastCGI straight to a UNIX socket: fcgi-load plays the web server. */
export const fastCgi = async (
  generator: string,
  workload: Workload,
  target: { readonly socket: string; readonly pid: number },
  { seconds, warmUp }: Duration
): Promise<Sample> => {
  const expect = "body" in workload.expect
    ? ["--expect-body", workload.expect.body]
    : ["--expect-bytes", String(workload.expect.bytes)]
  const printed = await output(generator, [
    "--unix",
    target.socket,
    "--uri",
    `${workload.path}?name=world&page=2`,
    "--method",
    workload.body > 0 ? "POST" : "GET",
    "--connections",
    String(workload.connections),
    "--multiplex",
    String(workload.multiplex),
    "--interleave",
    workload.multiplex > 1 ? "1" : "0",
    "--keep-conn",
    workload.keepConnection ? "1" : "0",
    "--body",
    String(workload.body),
    ...expect,
    "--seconds",
    String(seconds),
    "--warmup",
    String(warmUp),
    "--poll",
    workload.polling === true ? "1" : "0",
    "--timeout",
    "5",
    "--max-errors",
    "1000",
    "--pid",
    String(target.pid),
    "--json"
  ], [0, 1])
  const report = JSON.parse(printed) as Report
  return {
    requests: report.good,
    rate: report.good / report.seconds,
    cpu: report.server_cpu_us_per_request,
    latency: { p50: report.p50_us, p90: report.p90_us, p99: report.p99_us, p999: report.p999_us },
    errors: report.errors + report.violations,
    complaint: counters.filter((name) => report[name] !== 0).map((name) => `${name} ${report[name]}`).join(", ")
  }
}

interface WrkReport {
  readonly requests: number
  readonly microseconds: number
  readonly bytes: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly p999: number
  readonly errors: Record<"connect" | "read" | "write" | "status" | "timeout", number>
}

const runWrk = async (wrk: string, workload: Workload, port: number, seconds: number): Promise<WrkReport> => {
  const printed = await output(wrk, [
    "--threads",
    "1",
    "--connections",
    String(workload.connections),
    "--duration",
    `${Math.max(1, Math.round(seconds))}s`,
    "--script",
    Path.join(folder, "wrk.lua"),
    `http://127.0.0.1:${port}${workload.path}?name=world&page=2`,
    "--",
    String(workload.body)
  ])
  return JSON.parse(printed.slice(printed.indexOf("{"))) as WrkReport
}

/** HTTP through the web server: wrk plays the browsers, and the CPU is that of the server behind. */
export const http = async (
  wrk: string,
  workload: Workload,
  target: { readonly port: number; readonly pid: number },
  { seconds, warmUp }: Duration
): Promise<Sample> => {
  if (warmUp > 0) await runWrk(wrk, workload, target.port, warmUp)
  const before = cpuSeconds(target.pid)
  const report = await runWrk(wrk, workload, target.port, seconds)
  const cpu = cpuSeconds(target.pid) - before
  const failed = Object.values(report.errors).reduce((sum, count) => sum + count, 0)
  const good = Math.max(0, report.requests - report.errors.status)
  return {
    requests: good,
    rate: good / (report.microseconds / 1e6),
    cpu: good === 0 ? 0 : cpu * 1e6 / good,
    latency: { p50: report.p50, p90: report.p90, p99: report.p99, p999: report.p999 },
    errors: failed,
    complaint: Object.entries(report.errors).filter(([, count]) => count > 0).map(([name, count]) => `${name} ${count}`)
      .join(", ")
  }
}
