/**
 * Which tests of a server run once more over every way that bytes may take to it: each way is a project of vitest.config.ts, which plays
 * the same files.
 */
import { slow } from "./inMemory.ts"

/** The ways of ways.ts and relayed.ts, and the transport itself. */
export const wayNames = [
  "over the transport",
  "over a channel",
  "over an Effect socket",
  "over the stdio of a child",
  "as a bare channel"
] as const

export type WayName = typeof wayNames[number]

declare module "vitest" {
  interface ProvidedContext {
    readonly way: WayName
  }
}

const everyWay: ReadonlyArray<string> = [
  "connection/input.test.ts",
  "connection/output.test.ts",
  "connection/stalls.test.ts",
  "connection/stateTable.test.ts",
  "server/FastCgiAdmission.test.ts",
  "server/FastCgiServer.test.ts",
  "server/afterResponse.test.ts",
  "server/anyTime.test.ts",
  "server/appendixB.test.ts",
  "server/bodyLimit.test.ts",
  "server/connections.test.ts",
  "server/disconnects.test.ts",
  "server/filterOutput.test.ts",
  "server/givenUp.test.ts",
  "server/hostile.test.ts",
  "server/limits.test.ts",
  "server/metrics.test.ts",
  "server/others.test.ts",
  "server/timeouts.test.ts"
]

/** The files of tests that are played over a way besides the transport itself. All are with `FULL=1`. */
export const filesOver = (way: WayName, isFull: boolean): ReadonlyArray<string> => {
  if (way === "over the transport") return []
  if (isFull) return everyWay
  return way === "as a bare channel" ? everyWay.filter((file) => !slow.has(file)) : []
}

const streams: ReadonlyArray<WayName> = [
  "over a channel",
  "over an Effect socket",
  "over the stdio of a child",
  "as a bare channel"
]

const stdio: ReadonlyArray<WayName> = ["over the stdio of a child"]

/** Plays in these files that are not the same over every way, and why. */
const different: ReadonlyArray<
  readonly [why: string, ways: ReadonlyArray<WayName>, names: ReadonlyArray<string | RegExp>]
> = [
  [
    "What carries the bytes holds 64 KiB and a pull of them in each direction, whatever the peer and the handler take.",
    streams,
    [
      "not set: a peer that takes its time gets all of it, one that takes nothing is given up after lingerTimeout",
      "resets a connection whose peer takes nothing, and no other",
      "is paused at inputHighWaterMark, for as long as its handler likes, and loses nothing",
      "takes as much as a lower inputHighWaterMark says",
      "gets no more read ahead for it than one that reads all the time, when it has begun after 0 millis",
      "gets no more read ahead for it than one that reads all the time, when it has begun after 5 seconds",
      "1000 of 1000 bytes that nobody reads stop the peer",
      "500 bytes that are left of 1000 let the peer go on",
      "501 bytes that are left of 1000 do not let the peer go on",
      "is not one that reads slowly: nothing is lost to a handler that writes for an hour",
      "stays within the bound, with every request, all params, all input and all output that it can have"
    ]
  ],
  [
    "The pipes of a child hold some hundred KiB more in each direction.",
    stdio,
    [
      "drops unread input of its only request after stallTimeout: another request may stand behind it",
      "drops as many stalled requests at once as it takes to go on",
      "meets a handler that writes before it reads: resolved after stallTimeout",
      "a peer that reads nothing stops its connection, with bounded memory, and no other",
      "a response waits as soon as 3056 bytes are pending",
      "a response waits as soon as 3057 bytes are pending",
      "STDERR waits as STDOUT does",
      "the answer to GET_VALUES waits behind what was written before, and nothing else",
      "leaves a peer alone that takes little",
      "holds a peer up that floods with it and reads nothing, and answers it to the last when it reads",
      /^holds no more memory than its budget and a constant, /,
      / \| ready, with the output full \| /
    ]
  ],
  [
    "How far bytes have come in a turn of the scheduler, nobody knows of pipes.",
    stdio,
    [/^lets its sibling finish within twice the time that it takes alone, /]
  ],
  [
    "Some hundred times it is looked at whether all is gone, and when a process is, nobody knows.",
    stdio,
    [/^that (?:closes|resets) at any byte of a request to /]
  ],
  [
    "A child for each of some thousand connections takes minutes, or more descriptors than there are.",
    stdio,
    [
      "that break off at random leave no more than none",
      "are open, and cost 16 KiB each at most, while requests are answered"
    ]
  ],
  [
    "Output counts as taken when all 64 KiB of a batch are.",
    streams,
    ["that lingers gives a slow peer the time to take a large answer"]
  ],
  [
    "That a peer has gone is told some turns later.",
    streams,
    [/, a turn after its peer (?:closes|resets|aborts)$/]
  ],
  [
    "A stream has an end, and that comes behind the bytes before it: a close is no other than a half-close, and is not seen past them.",
    streams,
    [
      "is interrupted when its peer ends behind what it has not read for a second, on one that is not",
      "is interrupted whatever it has not read when its peer closes, as over a UNIX socket",
      "is not used up by held connections that have gone"
    ]
  ],
  [
    "A reset is an end as well, and is not seen past the bytes before it either.",
    stdio,
    ["of connections that are lost is forgotten, while others are held"]
  ],
  [
    "A stream cannot be reset: the record that cuts a response off, with a content that no decoder takes, is what the peer gets.",
    streams,
    [
      "whose body fails after its head was sent is cut off, and logged",
      "and a stream that is shorter is cut off",
      "and a stream that is longer is cut off",
      "connections and requests, open and in all"
    ]
  ],
  [
    "The memory of what carries the bytes counts as well: 16.6 KiB a connection over an Effect socket, and 26.4 KiB with a server for each.",
    ["over an Effect socket", "as a bare channel"],
    ["are open, and cost 16 KiB each at most, while requests are answered"]
  ],
  [
    "Each connection is a server of its own, which logs for itself.",
    ["as a bare channel"],
    [
      "refuses what is beyond with 503, and leaves the others alone (role 1)",
      "refuses what is beyond with 503, and leaves the others alone (role 2)",
      "holds further connections unread until another one has closed",
      "skips as much of PARAMS again, and then closes the connection",
      "close the connection, and are logged once with a hint (HTTP)",
      "close the connection, and are logged once with a hint (the first byte of HTTP)",
      "close the connection, and are logged once with a hint (HTTP/2)",
      "close the connection, and are logged once with a hint (TLS)",
      "close the connection, and are logged once with a hint (zeros)",
      "close the connection, and are logged once with a hint (one byte)"
    ]
  ]
]

// They take seconds, and are played over other ways only with `FULL=1`.
const long: ReadonlyArray<string> = [
  "gets the same answers whatever cuts it: in two, at every byte",
  "holds a peer up that floods with it and reads nothing, and answers it to the last when it reads"
]

/** Whether a play is left out over this way: it would be another one there, or takes long. */
export const isLeftOut = (name: string, way: WayName): boolean =>
  (way !== "over the transport" && process.env.FULL === undefined && long.includes(name)) ||
  different.some(([, ways, names]) =>
    ways.includes(way) && names.some((one) => typeof one === "string" ? one === name : one.test(name))
  )
