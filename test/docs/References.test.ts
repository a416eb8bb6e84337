/**
 * Links and paths of sources in the documents. A path in backticks may be relative to the root of the repository, or the last part of one
 * (`internal/logEdge.ts`).
 */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8"
})
  .trim()
  .split("\n")
const documents = files.filter((file) => /^(README\.md|docs\/.*\.md|(packages|apps)\/[^/]+\/README\.md)$/.test(file))

/** The links of a document to files of the repository. */
const linksOf = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)].map(([, link]) => link!)

/** The paths of sources that a document names. */
const sourcesOf = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/`([\w@][\w@./-]*\.ts)`/g)].map(([, source]) => source!)

/** The anchors that GitHub gives to the headings of a document. */
const anchorsOf = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-")
  )

/** The links of a document to headings, of its own or of another document. */
const headingLinksOf = (text: string): ReadonlyArray<readonly [file: string, anchor: string]> =>
  [...text.matchAll(/\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)/g)].map(([, file, anchor]) => [file!, anchor!])

const exists = (source: string): boolean => {
  const end = `/${source.replace(/^(\.\.?\/)+/, "")}`
  return files.some((file) => `/${file}`.endsWith(end))
}

describe("Documents", () => {
  it("the documents are found", () => {
    assert.isAbove(documents.length, 20)
  })

  for (const document of documents) {
    it(`the files that ${document} refers to exist`, () => {
      const text = fs.readFileSync(path.join(root, document), "utf8")
      const directory = path.join(root, path.dirname(document))
      const missing = linksOf(text).filter((link) => !fs.existsSync(path.resolve(directory, link)))
      assert.deepStrictEqual([...missing, ...sourcesOf(text).filter((source) => !exists(source))], [])
    })
  }

  it("the headings that documents refer to exist", () => {
    const missing = documents.flatMap((document) => {
      const file = path.join(root, document)
      return headingLinksOf(fs.readFileSync(file, "utf8")).filter(([target, anchor]) => {
        const linked = target === "" ? file : path.resolve(path.dirname(file), target)
        return !anchorsOf(fs.readFileSync(linked, "utf8")).includes(anchor)
      })
    })
    assert.deepStrictEqual(missing, [])
  })

  it("docs/architecture.md lists every actor with its messages, state and invariants", () => {
    const text = fs.readFileSync(path.join(root, "docs/architecture.md"), "utf8")
    const protocols = files.filter((file) => /^packages\/actors\/src\/.*Protocol\.ts$/.test(file))
    assert.isNotEmpty(protocols)
    for (const protocol of protocols) {
      const section = text.split("\n### ").find((part) => part.includes(`${protocol})`))
      assert.isDefined(section, `docs/architecture.md links to ${protocol}`)
      assert.match(section!, /State: [\s\S]*Invariants:/, protocol)
      const source = fs.readFileSync(path.join(root, protocol), "utf8")
      for (const [, message] of source.matchAll(/Rpc\.make\(\s*"(\w+)"/g)) {
        assert.include(section!, `\`${message}\``, `${protocol} in docs/architecture.md`)
      }
    }
  })

  it("docs/architecture.md shows the folders of the actors in the order that npm run check enforces", () => {
    const text = fs.readFileSync(path.join(root, "docs/architecture.md"), "utf8")
    const shown = [...text.matchAll(/^ {6}│ {3}([\w-]+)\/ /gm)].map(([, folder]) => folder)
    const rules = fs.readFileSync(path.join(root, ".dependency-cruiser.mjs"), "utf8")
    const [, order = ""] = /const actorFolders = \[(.*?)\]/s.exec(rules) ?? []
    assert.isNotEmpty(shown)
    assert.deepStrictEqual(
      shown.toReversed(),
      [...order.matchAll(/"([\w-]+)"/g)].map(([, folder]) => folder)
    )
  })
})
