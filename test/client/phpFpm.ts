/**
 * A real php-fpm in the foreground, on a UNIX socket under a folder of its own, with the scripts that the tests need.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir, userInfo } from "node:os"
import { join } from "node:path"
import * as NodeFastCgiConnector from "../../src/node/NodeFastCgiConnector.ts"

class PhpFpmError extends Data.TaggedError("PhpFpmError")<{ readonly message: string }> {}

const scripts: Readonly<Record<string, string>> = {
  "hello.php":
    `<?php header("X-From: fpm"); setcookie("a", "1"); setcookie("b", "2", ["path" => "/x", "httponly" => true]);
echo "hello ", $_GET["name"] ?? "nobody";`,
  "env.php": `<?php header("Content-Type: application/json");
echo json_encode(["server" => $_SERVER, "get" => $_GET, "post" => $_POST, "cookies" => $_COOKIE]);`,
  "body.php": `<?php $in = fopen("php://input", "rb"); $hash = hash_init("sha256"); $size = 0;
while (!feof($in)) { $chunk = fread($in, 65536); $size += strlen($chunk); hash_update($hash, $chunk); }
header("Content-Type: application/json"); echo json_encode(["size" => $size, "sha256" => hash_final($hash)]);`,
  "upload.php":
    `<?php header("Content-Type: application/json"); echo json_encode(["post" => $_POST, "files" => array_map(fn ($f) =>
  ["name" => $f["name"], "type" => $f["type"], "size" => $f["size"], "sha256" => hash_file("sha256", $f["tmp_name"])], $_FILES)]);`,
  // Each event leaves only when the file that the test makes is there.
  "events.php": `<?php header("Content-Type: text/event-stream"); while (ob_get_level()) ob_end_flush();
for ($i = 0; $i < 5; $i++) { echo "data: $i\\n\\n"; flush(); for ($n = 0; $n < 2000 && !file_exists($_GET["gate"] . $i); $n++) { usleep(5000); clearstatcache(); } }`,
  "large.php":
    `<?php ignore_user_abort(true); $size = (int) $_GET["size"]; if (isset($_GET["length"])) header("Content-Length: $size");
header("Content-Type: application/octet-stream"); while (ob_get_level()) ob_end_flush(); $chunk = str_repeat("0123456789abcdef", 4096);
for ($sent = 0; $sent < $size; $sent += 65536) { echo $size - $sent < 65536 ? substr($chunk, 0, $size - $sent) : $chunk; flush(); if (connection_aborted()) { touch(__DIR__ . "/aborted"); exit; } }`,
  "status.php":
    `<?php http_response_code((int) $_GET["code"]); header("X-Code: " . $_GET["code"]); echo "status ", $_GET["code"];`,
  "stderr.php": `<?php error_log("something odd"); echo "done";`,
  "count.php": `<?php file_put_contents(__DIR__ . "/count", "x", FILE_APPEND); echo getmypid();`,
  "sleep.php": `<?php usleep((int) $_GET["us"]); echo $_GET["n"] ?? "", $_POST["n"] ?? "";`,
  // Each line is written at once, whoever writes at the same time.
  "note.php":
    `<?php file_put_contents(__DIR__ . "/notes", $_GET["n"] . "\n", FILE_APPEND | LOCK_EX); usleep(2000); echo $_GET["n"];`,
  "exit.php": `<?php echo "partial"; exit(3);`,
  "crash.php": `<?php exec("kill -9 " . getmypid()); sleep(5);`
}

export interface PhpFpm {
  readonly socket: string
  readonly documentRoot: string
  readonly folder: string
  readonly connect: ReturnType<typeof NodeFastCgiConnector.connect>
  /** To workers that end after one request each (`pm.max_requests`). */
  readonly connectRecycled: ReturnType<typeof NodeFastCgiConnector.connect>
  /** Replaces all workers, whatever they are doing, and waits until the new ones are there. The sockets stay open. */
  readonly reload: Effect.Effect<void>
}

export interface PhpFpmOptions {
  /** Whether Debian's php.ini counts, with the extensions that are installed. Default: only what is compiled in. */
  readonly systemIni?: boolean
  /** Lines for the pool `www`. */
  readonly pool?: (folder: string) => ReadonlyArray<string>
}

/** Starts php-fpm and waits until it says that it is ready. It is stopped, and its folder removed, with the scope. */
export const start = (command: string, options: PhpFpmOptions = {}) =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "fcgi-php-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    chmodSync(folder, 0o755)
    const documentRoot = join(folder, "www")
    const socket = join(folder, "php.sock")
    const recycled = join(folder, "recycled.sock")
    mkdirSync(documentRoot)
    for (const [name, text] of Object.entries(scripts)) writeFileSync(join(documentRoot, name), text)
    const root = userInfo().uid === 0
    writeFileSync(
      join(folder, "fpm.conf"),
      `[global]
error_log = ${join(folder, "fpm.log")}
daemonize = no
[www]
listen = ${socket}
${root ? "user = root\ngroup = root" : ""}
pm = static
pm.max_children = 4
pm.status_path = /status
ping.path = /ping
catch_workers_output = no
php_admin_value[post_max_size] = 256M
php_admin_value[upload_max_filesize] = 64M
php_admin_value[memory_limit] = 256M
php_admin_flag[log_errors] = on
php_admin_value[error_log] =
php_admin_flag[output_buffering] = off
${options.pool?.(folder).join("\n") ?? ""}
[recycled]
listen = ${recycled}
${root ? "user = root\ngroup = root" : ""}
pm = static
pm.max_children = 1
pm.max_requests = 1
php_admin_flag[log_errors] = on
php_admin_value[error_log] =
`
    )
    let ready = 0
    let onReady = () => {}
    const child = yield* Effect.acquireRelease(
      Effect.callback<ReturnType<typeof spawn>, PhpFpmError>((resume) => {
        let log = ""
        const child = spawn(command, [
          "-F",
          "-O",
          ...(options.systemIni === true ? [] : ["-n"]),
          ...(root ? ["-R"] : []),
          "-p",
          folder,
          "-y",
          join(folder, "fpm.conf")
        ], {
          stdio: ["ignore", "ignore", "pipe"]
        })
        child.on("error", (error) => resume(Effect.fail(new PhpFpmError({ message: error.message }))))
        child.on(
          "exit",
          (code) => resume(Effect.fail(new PhpFpmError({ message: `php-fpm exited with ${code}: ${log}` })))
        )
        child.stderr.on("data", (data) => {
          log += String(data)
          if (log.includes("ready to handle connections")) {
            log = ""
            ready++
            onReady()
            resume(Effect.succeed(child))
          }
        })
        return Effect.sync(() => child.kill("SIGKILL"))
      }),
      (child) =>
        Effect.callback<void>((resume) => {
          child.removeAllListeners("exit")
          child.on("exit", () => resume(Effect.void))
          child.kill("SIGTERM")
        })
    )
    const phpFpm: PhpFpm = {
      socket,
      documentRoot,
      folder,
      connect: NodeFastCgiConnector.connect({ path: socket }),
      connectRecycled: NodeFastCgiConnector.connect({ path: recycled }),
      reload: Effect.callback<void>((resume) => {
        const before = ready
        onReady = () => {
          if (ready > before) resume(Effect.void)
        }
        child.kill("SIGUSR2")
      })
    }
    return phpFpm
  })
