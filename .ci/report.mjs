/**
 * The results of `.ci/run`. `failing REPORT` prints the test files that failed, one a line. `count ...` prints the failed tests
 * with their errors, the tests that passed only alone, and as the last line `N passed, N failed`.
 */
import { readFileSync } from "node:fs"

const read = (file) => {
  try {
    return JSON.parse(readFileSync(file, "utf8"))
  } catch {
    return undefined
  }
}

/** Lists the failures of one file of a vitest report: its failed tests, or the file itself where it could not be run. */
const failuresOf = (file) => {
  const failed = file.assertionResults.filter((test) => test.status === "failed")
  if (failed.length === 0 && file.status === "failed") return [{ file: file.name, name: "", error: file.message }]
  return failed.map((test) => ({ file: file.name, name: test.fullName, error: test.failureMessages.join("\n") }))
}

const countPassed = (file) => file.assertionResults.filter((test) => test.status === "passed").length
const countSkipped = (file) =>
  file.assertionResults.filter((test) => test.status !== "passed" && test.status !== "failed").length

const failing = (report) => {
  for (const file of read(report)?.testResults ?? []) if (failuresOf(file).length > 0) console.log(file.name)
}

const count = (report, again, tests, check, clients, interop, several) => {
  let [passed, failed, skipped] = [0, 0, 0]
  const fail = (text) => {
    failed++
    console.log(`failed  ${text}`)
  }
  const second = new Map((read(again)?.testResults ?? []).map((file) => [file.name, file]))
  const first = read(report)?.testResults
  if (first === undefined) fail("the tests left no report")
  for (const file of first ?? []) {
    const last = second.get(file.name) ?? file
    passed += countPassed(last)
    skipped += countSkipped(last)
    const failures = failuresOf(last)
    for (const { file, name, error } of failures) fail(`${file}: ${name}\n${error.slice(0, 2000)}`)
    for (const { file: path, name, error } of failuresOf(file)) {
      if (failures.some((other) => other.name === name)) continue
      console.log(`passed only alone  ${path}: ${name}\n${error.slice(0, 1000)}`)
    }
  }
  const steps = read(clients)
  if (steps === undefined) fail("the clients left no report")
  passed += steps?.passed ?? 0
  failed += steps?.failed ?? 0
  if (tests !== "0" && failed === 0 && second.size === 0) fail("npm test")
  if (check !== "0") fail("npm run check")
  if (interop !== "0") fail("npm run test:interop")
  if (several !== "0") fail("the tests against three nodes")
  if (passed === 0 && failed === 0) fail("no test ran")
  if (skipped > 0) console.log(`${skipped} skipped`)
  console.log(`${passed} passed, ${failed} failed`)
  process.exitCode = failed === 0 ? 0 : 1
}

const [command, ...rest] = process.argv.slice(2)
if (command === "failing") failing(...rest)
else count(...rest)
