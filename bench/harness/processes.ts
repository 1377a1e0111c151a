/**
 * Child processes of the benchmark: started on this Node, ready when their socket accepts, always stopped.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"

export interface Server {
  readonly pid: number
  /** SIGTERM, then SIGKILL after two seconds. Ends when the process is gone. */
  readonly stop: () => Promise<void>
}

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

/** Starts a program and waits until something accepts at `address`. Its stderr is shown when it fails to. */
export const start = async (
  command: string,
  args: ReadonlyArray<string>,
  address: Net.NetConnectOpts
): Promise<Server> => {
  const child = ChildProcess.spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] })
  running.add(child)
  let complaint = ""
  child.stderr.on("data", (bytes: Buffer) => {
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
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return {
    pid: child.pid!,
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
    const child = ChildProcess.spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] })
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

/** User and system CPU seconds a process has used so far, all threads. Linux counts in hundredths of a second. */
export const cpuSeconds = (pid: number): number => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  // The second field is the command in parentheses and may contain spaces.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
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
