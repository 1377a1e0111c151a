/**
 * Child processes of the benchmark: started on this Node, ready when their socket accepts, always stopped.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"

export interface Server {
  readonly pid: number
  /** Collects garbage in the server and says what it has in use then; for one that was started with `probe`. */
  readonly memory: () => Promise<NodeJS.MemoryUsage>
  /** What it has written to stderr, up to 4 KiB. */
  readonly complaint: () => string
  /** SIGTERM, then SIGKILL after two seconds. Ends when the process is gone. */
  readonly stop: () => Promise<void>
}

/**
 * The program that gives servers and generators real-time priority: what else the machine does then waits for them. Servers get it
 * when they listen, because several that start with it at once keep one another from starting.
 */
export const withPriority: { chrt: string | undefined } = { chrt: undefined }

const prioritized = (command: string, args: ReadonlyArray<string>): readonly [string, ReadonlyArray<string>] =>
  withPriority.chrt === undefined ? [command, args] : [withPriority.chrt, ["-r", "10", command, ...args]]

/** Arguments of Node with which a server can be asked for its memory. */
export const probe: ReadonlyArray<string> = ["--expose-gc", "--import", new URL("./probe.ts", import.meta.url).href]

const running = new Set<ChildProcess.ChildProcess>()

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

const accepts = (address: Net.NetConnectOpts): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(address, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on("error", () => resolve(false))
  })

/**
 * Starts a program and waits until something accepts at `address`, which is tried every 20 ms unless `every` says otherwise. Its
 * stderr is shown when it fails to.
 */
export const start = async (
  command: string,
  args: ReadonlyArray<string>,
  address: Net.NetConnectOpts,
  options: { readonly every?: number; readonly env?: Readonly<Record<string, string>> } = {}
): Promise<Server> => {
  const child = ChildProcess.spawn(command, args, {
    // The last one is for the probe; other programs do not look at it.
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    env: { ...process.env, ...options.env }
  })
  running.add(child)
  let complaint = ""
  child.stderr!.on("data", (bytes: Buffer) => {
    if (complaint.length < 4096) complaint += bytes.toString()
  })
  const exited = new Promise<void>((resolve) => {
    child.once("close", () => {
      running.delete(child)
      resolve()
    })
    child.once("error", (error) => {
      complaint += error.message
      running.delete(child)
      resolve()
    })
  })
  const deadline = performance.now() + 20_000
  while (!await accepts(address)) {
    if (!running.has(child) || performance.now() > deadline) {
      child.kill("SIGKILL")
      throw new Error(`${command} ${args.join(" ")} does not accept connections\n${complaint}`)
    }
    await new Promise((resolve) => setTimeout(resolve, options.every ?? 20))
  }
  if (withPriority.chrt !== undefined) {
    const children = Fs.readFileSync(`/proc/${child.pid!}/task/${child.pid!}/children`, "utf8").split(" ")
    for (const pid of [`${child.pid!}`, ...children.filter((text) => text !== "")]) {
      ChildProcess.execFileSync(withPriority.chrt, ["-a", "-r", "-p", "10", pid])
    }
  }
  return {
    pid: child.pid!,
    complaint: () => complaint,
    memory: () =>
      new Promise((resolve, reject) => {
        child.once("message", (usage) => resolve(usage as NodeJS.MemoryUsage))
        child.send("memory", (error) => error === null || reject(error))
      }),
    stop: async () => {
      child.kill("SIGTERM")
      const timer = setTimeout(() => child.kill("SIGKILL"), 2000)
      await exited
      clearTimeout(timer)
    }
  }
}

/** Runs a program to its end and returns what it printed. */
export const output = (
  command: string,
  args: ReadonlyArray<string>,
  acceptedCodes: ReadonlyArray<number> = [0]
): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = ChildProcess.spawn(...prioritized(command, args), { stdio: ["ignore", "pipe", "pipe"] })
    running.add(child)
    let printed = ""
    let complaint = ""
    child.stdout.on("data", (bytes: Buffer) => {
      printed += bytes.toString()
    })
    child.stderr.on("data", (bytes: Buffer) => {
      complaint += bytes.toString()
    })
    child.on("error", reject)
    child.on("close", (code) => {
      running.delete(child)
      if (code !== null && acceptedCodes.includes(code)) resolve(printed)
      else reject(new Error(`${command} ${args.join(" ")}: exit ${code}\n${complaint}`))
    })
  })

/** CPU time of all threads of a process. */
export interface CpuTimes {
  readonly user: number
  readonly system: number
}

/** The seconds that a process has used so far. Linux counts in hundredths of a second. */
export const cpuTimes = (pid: number): CpuTimes => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  // The second field is the command in parentheses and may contain spaces.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return { user: Number(fields[11]) / 100, system: Number(fields[12]) / 100 }
}

/** User and system together. */
export const cpuSeconds = (pid: number): number => {
  const { system, user } = cpuTimes(pid)
  return user + system
}

/** Resident memory of a process in bytes. */
export const residentBytes = (pid: number): number => {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  return Number(found![1]) * 1024
}

/** A TCP port of the loopback interface that nobody listens on. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = Net.createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address() as Net.AddressInfo
      server.close(() => resolve(address.port))
    })
  })
