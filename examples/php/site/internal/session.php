<?php
// internal/session.php: Who the visitor is, for the routes that PHP no longer answers. `deny` of main.ts keeps visitors out.
session_start(["read_and_close" => true]);
header("Content-Type: application/json");
echo json_encode(["name" => $_SESSION["name"] ?? null]);
