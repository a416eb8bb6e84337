/**
 * Sytest, the older public conformance suite of Matrix, against Greenroom, which `test/conformance/sytest` starts. Without files of tests
 * all of them run. The Perl modules that Sytest needs (its `cpanfile`) may be in PERL5LIB.
 */
import { spawn, spawnSync } from "node:child_process"
import { createWriteStream, existsSync } from "node:fs"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { sytestKnownFailures } from "./sytestKnownFailures.ts"

const library = fileURLToPath(new URL("./sytest", import.meta.url))
const program = fileURLToPath(new URL("../../apps/gateway/src/main.ts", import.meta.url))
const print = (text: string) => process.stdout.write(`${text}\n`)

interface Counts {
  passed: number
  failed: number
  skipped: number
}

/** The line with the outcome of a test, in TAP as Sytest writes it. Lines of its steps are indented. */
const outcomeLine = /^(not )?ok \d+ (.*?)(?: \(\d+ subtests\))?( # skip .*)?$/

/** The chapter of a file: `tests/30rooms/01state.pl` and `tests/40presence.pl` are of `30rooms` and `40presence`. */
const chapterOf = (file: string): string => file.split("/")[1]?.replace(/\.pl$/, "") ?? file

/** Runs Sytest, with its servers and logs in `directory`. Returns the number of unknown failures. */
export const runSytest = async (
  sytest: string,
  directory: string,
  files: ReadonlyArray<string>,
  environment: NodeJS.ProcessEnv
): Promise<number> => {
  if (spawnSync("perl", ["-v"]).error !== undefined) {
    print("Sytest needs Perl, which is not installed")
    return 0
  }
  if (!existsSync(path.join(sytest, "run-tests.pl"))) {
    print(`No Sytest in ${sytest}: git clone https://github.com/matrix-org/sytest`)
    return 0
  }
  const child = spawn(
    "perl",
    [
      ...["run-tests.pl", "-I", "Greenroom", "-O", "tap", "--all"],
      ...["--bind-host", "127.0.0.1", "--work-directory", directory, ...files]
    ],
    {
      cwd: sytest,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        PERL5LIB: [library, process.env.PERL5LIB].filter(Boolean).join(":"),
        GREENROOM_NODE: process.execPath,
        GREENROOM_PROGRAM: program,
        ...environment
      }
    }
  )
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
  const log = createWriteStream(path.join(directory, "sytest.log"))

  // Standard error has the name of a file when its first test begins.
  let chapter = "?"
  createInterface({ input: child.stderr }).on("line", (line) => {
    log.write(`${line}\n`)
    if (/^tests\/.*\.pl:$/.test(line)) chapter = chapterOf(line.slice(0, -1))
  })

  const chapters = new Map<string, Counts>()
  const failed: Array<string> = []
  for await (const line of createInterface({ input: child.stdout })) {
    log.write(`${line}\n`)
    const [isOutcome, not, name, skip] = outcomeLine.exec(line) ?? []
    if (isOutcome === undefined || name === undefined) continue
    const counts = chapters.get(chapter) ?? { passed: 0, failed: 0, skipped: 0 }
    chapters.set(chapter, counts)
    counts[skip !== undefined ? "skipped" : not === undefined ? "passed" : "failed"]++
    if (not !== undefined) failed.push(name)
  }
  const code = await ended
  log.end()

  for (const [name, counts] of chapters) {
    print(`${name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
  }
  if (code !== 0 && failed.length === 0) failed.push(`(Sytest ended with ${code})`)
  const isKnown = (name: string) => Object.hasOwn(sytestKnownFailures, name)
  for (const name of failed) print(`  ${isKnown(name) ? "known  " : "FAILED "} ${name}`)
  return failed.filter((name) => !isKnown(name)).length
}
