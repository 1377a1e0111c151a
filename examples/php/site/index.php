<?php
// A small site: every URL that is no file comes here (frontController of main.ts).
session_start();
$path = parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH);
if ($path === "/login" && $_SERVER["REQUEST_METHOD"] === "POST") {
  session_regenerate_id(true);
  $_SESSION["name"] = substr(trim($_POST["name"] ?? ""), 0, 40);
  header("Location: /", true, 303);
  exit;
}
if ($path !== "/") http_response_code(404);
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>A small site</title>
<link rel="stylesheet" href="/style.css">
<?php if ($path !== "/"): ?>
<h1>Not here</h1>
<?php elseif (isset($_SESSION["name"]) && $_SESSION["name"] !== ""): ?>
<h1>Hello, <?= htmlspecialchars($_SESSION["name"]) ?></h1>
<p>PHP made this page. <a href="/account">Your account</a> is made by Effect, which asks PHP who you are.</p>
<form method="post" action="/logout"><button>Log out</button></form>
<?php else: ?>
<h1>Hello</h1>
<form method="post" action="/login">
  <label>Your name <input name="name" required maxlength="40"></label>
  <button>Log in</button>
</form>
<?php endif ?>
