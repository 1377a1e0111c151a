/**
 * The command line of the example, and the app behind real web servers. On the sources; `browser.test.ts` runs the built package.
 */
import { assert, describe, it } from "@effect/vitest"
import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import * as Fs from "node:fs"
import { createServer } from "node:net"
import { describeWith } from "../support/requirement.ts"
import * as Board from "./support/board.ts"

const run = async (...args: ReadonlyArray<string>) => {
  const board = Board.spawnOnSources(args)
  const { code } = await board.exited
  return { code, output: board.output(), errors: board.errors() }
}

/** Starts it, uses it, and stops whatever is left of it. */
const withBoard = async (
  args: ReadonlyArray<string>,
  use: (board: Board.BoardProcess, at: { readonly url: string; readonly socket: string | undefined }) => Promise<void>
) => {
  const board = Board.spawnOnSources([...args, "--port", "0"])
  try {
    await use(board, await Board.ready(board))
  } finally {
    board.child.kill("SIGTERM")
    await board.exited
  }
}

/** Reads a live stream up to the text. */
const readTo = async (response: Response, text: string) => {
  let read = ""
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    read += chunk
    if (read.includes(text)) return read
  }
  throw new Error(`the stream ended before ${text}: ${read}`)
}

const useEverything = async (url: string, server: RegExp | undefined) => {
  const page = await (await fetch(url)).text()
  if (server === undefined) assert.include(page, "plain HTTP")
  else {
    assert.include(page, "<dd>FastCGI</dd>")
    assert.match(page, server)
    // The records of this request, and of its response when that has been sent.
    const [, records] = /data-rest="\/(records\/[0-9a-f-]+)"/.exec(page)!
    const recorded = await (await fetch(new URL(records!, url))).text()
    for (const name of ["BEGIN_REQUEST", "PARAMS", "STDIN", "STDOUT", "END_REQUEST"]) {
      assert.include(recorded, `<code>${name}</code>`)
    }
  }
  const live = fetch(new URL("events", url))
  await Promise.all([
    live.then((response) => readTo(response, "from another page")),
    live.then(() => fetch(url, { method: "POST", body: new URLSearchParams({ text: "from another page" }) }))
  ])

  const bytes = randomBytes(5_000_000)
  const form = new FormData()
  form.append("file", new File([bytes], "zufällig.bin"))
  const uploaded = await fetch(new URL("files", url), { method: "POST", body: form, redirect: "manual" })
  assert.strictEqual(uploaded.status, 303)
  const [file] = await (await fetch(new URL("api/files", url))).json() as ReadonlyArray<{ id: number; sha256: string }>
  assert.strictEqual(file!.sha256, createHash("sha256").update(bytes).digest("hex"))
  const download = await fetch(new URL(`files/${file!.id}`, url))
  assert.deepStrictEqual(Buffer.from(await download.arrayBuffer()), bytes)

  const broken = await fetch(new URL("broken", url))
  assert.strictEqual(broken.status, 500)
  assert.include(await broken.text(), "Something went wrong")
}

describe("the command line", () => {
  it("explains itself", async () => {
    const { code, output } = await run("--help")
    assert.strictEqual(code, 0)
    assert.include(output, "--behind nginx")
  })

  it("says what is wrong with its options and exits with 2", async () => {
    for (
      const [args, message] of [
        [["--foo"], "Unknown option '--foo'"],
        [["--port", "x"], "--port takes a number from 0 to 65535, not \"x\""],
        [["--port", "65536"], "not \"65536\""],
        [
          ["--host", "example.org"],
          "--host takes an IP address, such as 127.0.0.1, 0.0.0.0 or ::1, not \"example.org\""
        ],
        [["--host", "127.0.0.1; daemon on"], "not \"127.0.0.1; daemon on\""],
        [["--behind", "caddy"], "--behind takes nginx or lighttpd, not \"caddy\""],
        [["--behind", "nginx", "--http"], "exclude each other"],
        [["nginx"], "Unexpected argument 'nginx'"]
      ] as const
    ) {
      const { code, errors } = await run(...args)
      assert.strictEqual(code, 2)
      assert.include(errors, message)
    }
  })

  for (const mode of [[], ["--http"], ["--behind", "nginx"]]) {
    const suite = mode.includes("nginx") ? describeWith.bind(undefined, ["nginx"]) : describe
    suite(`${mode.join(" ")}, with the port taken`, () => {
      it("says so, and what to do", async () => {
        const server = createServer().listen(0, "127.0.0.1")
        await once(server, "listening")
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const { code, errors } = await run(...mode, "--port", String(port))
        server.close()
        assert.strictEqual(code, 1)
        assert.strictEqual(
          errors,
          `board: port ${port} on 127.0.0.1 is taken. Choose another with --port ${port + 1}, ` +
            `or any free one with --port 0\n`
        )
      })
    })
  }
})

describe("npm start", () => {
  it("serves over FastCGI behind the gateway, and over plain HTTP", async () => {
    await withBoard([], async (_, { url }) => useEverything(url, /SERVER_SOFTWARE/))
    await withBoard(["--http"], async (_, { url }) => useEverything(url, undefined))
  })

  it("listens on another address", async () => {
    for (const [host, at] of [["127.0.0.2", "127.0.0.2"], ["0.0.0.0", "127.0.0.1"]] as const) {
      await withBoard(["--host", host], async (board, { url }) => {
        assert.strictEqual(new URL(url).hostname, at)
        assert.strictEqual((await fetch(url)).status, 200)
        assert.include(board.output(), "notes live in memory")
      })
    }
  })

  it("ends at SIGTERM with 0 though a live stream is open, and removes its socket", () =>
    withBoard([], async (board, { socket, url }) => {
      const live = await fetch(new URL("events", url))
      assert.strictEqual(Fs.statSync(socket!).isSocket(), true)
      board.child.kill("SIGTERM")
      // The stream ends; it is not cut.
      for await (const _ of live.body!) { /* to its end */ }
      assert.deepStrictEqual(await board.exited, { code: 0, signal: null })
      assert.strictEqual(Fs.existsSync(socket!), false)
    }))
})

for (const [name, software] of [["nginx", /nginx\/\d/], ["lighttpd", /lighttpd\/\d/]] as const) {
  describeWith([name], `npm start -- --behind ${name}`, () => {
    it("serves behind it, and stops it", () =>
      withBoard(["--behind", name], async (board, { socket, url }) => {
        await useEverything(url, software)
        const pid = Number(/process (\d+)\) --FastCGI/.exec(board.output())![1])
        board.child.kill("SIGINT")
        assert.deepStrictEqual(await board.exited, { code: 0, signal: null })
        assert.throws(() => process.kill(pid, 0), /ESRCH/)
        assert.strictEqual(Fs.existsSync(socket!), false)
      }))

    it("has it listen on another address", () =>
      withBoard(["--behind", name, "--host", "127.0.0.2"], async (_, { url }) => {
        assert.strictEqual(new URL(url).hostname, "127.0.0.2")
        assert.strictEqual((await fetch(url)).status, 200)
      }))

    it("fails when it dies", () =>
      withBoard(["--behind", name], async (board) => {
        const pid = Number(/process (\d+)\) --FastCGI/.exec(board.output())![1])
        process.kill(pid, "SIGKILL")
        assert.strictEqual((await board.exited).code, 1)
        assert.include(board.errors(), `board: ${name} ended`)
      }))
  })
}
