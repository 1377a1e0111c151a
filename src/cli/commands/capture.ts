/**
 * `dump`, `record` and `replay`: what is said on connections.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { listenForms } from "../../node/internal/address.ts"
import * as Flags from "../internal/flags.ts"
import * as Target from "../internal/target.ts"

const content = Flag.String("content").pipe(
  Flag.filterMap(
    (text): Option.Option<number | "all"> =>
      text === "all"
        ? Option.some("all")
        : text === "none"
        ? Option.some(0)
        : /^\d{1,9}$/.test(text)
        ? Option.some(Number(text))
        : Option.none(),
    (text) => `--content takes a number of bytes, all or none, not "${text}"`
  ),
  Flag.withDefault(512),
  Flag.withMetavar("bytes"),
  Flag.withDescription("How much of each record's content to show: a number of bytes, all or none. Default 512.")
)

const connection = Flag.Int("connection").pipe(
  Flag.withMetavar("number"),
  Flag.withDescription("Only this connection of a pcap file."),
  Flag.optional,
  Flag.map(Option.getOrUndefined)
)

const dumpFlags = {
  file: Argument.String("file").pipe(
    Argument.withDescription("The capture: pcap, pcapng, or the bytes of one direction; - for standard input.")
  ),
  follow: Flags.toggle("follow", "Wait for more at the end of the file, as tail -f does."),
  content,
  connection,
  port: Flag.Int("port").pipe(
    Flag.withMetavar("port"),
    Flag.withDescription("Only connections to this port."),
    Flag.optional,
    Flag.map(Option.getOrUndefined)
  ),
  json: Flags.json("an object for each record, one a line,")
}

/** The options of `dump`. */
export type DumpOptions = Command.Command.Config.Infer<typeof dumpFlags>

/** `dump`. */
export const dump = Command.make(
  "dump",
  dumpFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../capture/dump.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Show the records of a capture."),
  Command.withDescription(
    "Shows FastCGI connections record by record. Takes a capture of tcpdump, Wireshark or the command record, whose " +
      "connections it puts together from their packets, or the plain bytes of one direction. Exits with 5 when the " +
      "capture has bytes that are no FastCGI."
  ),
  Command.withExamples([
    {
      command: "tcpdump -i lo -U -w - port 9000 | effect-fastcgi dump -",
      description: "The records between a web server and an application, live"
    },
    { command: "effect-fastcgi dump capture.pcap --connection 3 --content all", description: "All of one connection" },
    { command: "effect-fastcgi dump capture.pcap --json | jq .pairs", description: "For other programs" }
  ])
)

const recordFlags = {
  file: Argument.String("file").pipe(
    Argument.optional,
    Argument.map(Option.getOrUndefined),
    Argument.withDescription("The pcap file to write; - for stdout. Without a file, the records are shown.")
  ),
  listen: Flag.String("listen").pipe(
    Flag.withMetavar("address"),
    Flag.withDescription(`Where to listen for the web server: ${listenForms}.`)
  ),
  to: Flag.String("to").pipe(
    Flag.withMetavar("address"),
    Flag.withDescription("Where the application listens.")
  ),
  content,
  json: Flags.json("an object for each record, one a line,")
}

/** The options of `record`. */
export type RecordOptions = Command.Command.Config.Infer<typeof recordFlags>

/** `record`. */
export const record = Command.make(
  "record",
  recordFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../capture/record.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Stand between a web server and an application, and record their bytes."),
  Command.withDescription(
    "Passes every connection on to the application, byte by byte, and writes every byte and every close into a pcap " +
      "file. Works over UNIX sockets too, which tcpdump cannot see. Ctrl-C ends it."
  ),
  Command.withExamples([
    {
      command: "effect-fastcgi record --listen /run/front.sock --to /run/app.sock capture.pcap",
      description: "The web server connects to front.sock"
    },
    { command: "effect-fastcgi record --listen :9001 --to :9000", description: "Show the records" }
  ])
)

const replayFlags = {
  file: Argument.String("file").pipe(
    Argument.withDescription("The capture: pcap, pcapng, or the bytes of a web server; - for standard input.")
  ),
  address: Target.address,
  connection,
  ignore: Flags.several("ignore", "name", "A header whose values may differ, besides Date."),
  timeout: Flags.duration("timeout", "How long each answer may take. Default 10 seconds.").pipe(
    Flag.withDefault(Duration.seconds(10))
  ),
  json: Flags.json("an object for each request, one a line,")
}

/** The options of `replay`. */
export type ReplayOptions = Command.Command.Config.Infer<typeof replayFlags>

/** `replay`. */
export const replay = Command.make(
  "replay",
  replayFlags,
  (options) => Effect.flatMap(Effect.promise(() => import("../capture/replay.ts")), ({ run }) => run(options))
).pipe(
  Command.withShortDescription("Send a captured web server's side to an application, and compare the answers."),
  Command.withDescription(
    "Sends the web server's side of a capture to an application, byte for byte, one connection after the other, and " +
      "waits for an answer where the web server had waited. Compares status, headers (without Date), body and appStatus " +
      "of each answer with the recorded one. Exits with 1 when an answer differs."
  ),
  Command.withExamples([
    {
      command: "effect-fastcgi replay capture.pcap /run/new.sock --ignore set-cookie",
      description: "Compare a new version with the old one"
    }
  ])
)
