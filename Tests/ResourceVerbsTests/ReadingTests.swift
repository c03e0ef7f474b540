import Documents
import Glibc
import ResourceVerbs
import Resources
import Sockets
import Testing

/// A folder of its own, gone afterwards.
final class Folder {
  let path: String
  init() throws {
    var template = Array("/tmp/margay-verbs.XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }
  func write(_ name: String, _ text: String) throws {
    let parts = name.split(separator: "/").dropLast()
    for count in 0..<parts.count { mkdir("\(path)/\(parts[...count].joined(separator: "/"))", 0o755) }
    try Files.write(Array(text.utf8), to: "\(path)/\(name)", create: true)
  }
  deinit { _ = try? ChildCommand("/bin/rm", ["-rf", path]).runToEnd() }
}

@Suite("Reading files and directories")
struct ReadingTests {
  private func tier(_ name: String) -> String { head + "kind: Tier\nmetadata: {name: \(name)}\nspec: {order: 1}\n" }

  @Test("A directory is its .yaml, .yml and .json files in order of names; hidden ones and others are left out")
  func directory() throws {
    let folder = try Folder()
    try folder.write("b.yaml", tier("b"))
    try folder.write("a.yml", tier("a"))
    try folder.write("c.json", #"{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"c"},"spec":{"order":1}}"#)
    try folder.write("README.md", "not a document")
    try folder.write(".#b.yaml", "half: [")
    try folder.write("below/d.yaml", tier("d"))
    #expect(Submissions.read(SourceFiles([folder.path])).items.map(\.resource.metadata.name) == ["a", "b", "c"])
    #expect(Submissions.read(SourceFiles([folder.path], isRecursive: true)).items.map(\.resource.metadata.name) == ["a", "b", "d", "c"])
  }

  @Test("A link to a directory is not followed, so that a loop has an end; a link to a file is")
  func links() throws {
    let folder = try Folder()
    try folder.write("a.yaml", tier("a"))
    symlink(folder.path, "\(folder.path)/loop")
    symlink("a.yaml", "\(folder.path)/z.yaml")
    let read = Submissions.read(SourceFiles([folder.path], isRecursive: true))
    #expect(read.items.count == 2 && read.errors.isEmpty, "\(read.errors)")
  }

  @Test("Nothing to read is a mistake unless it may be; each word of -f by itself")
  func empty() throws {
    let folder = try Folder()
    try folder.write("comment.yaml", "# nothing\n---\n")
    try folder.write("a.yaml", tier("a"))
    let read = Submissions.read(SourceFiles(["\(folder.path)/a.yaml", "\(folder.path)/comment.yaml"]))
    #expect(read.errors.map(\.description) == ["\(folder.path)/comment.yaml: holds no document; use --skip-empty if it may"])
    #expect(Submissions.read(SourceFiles(["\(folder.path)/comment.yaml"]), skipEmpty: true).errors.isEmpty)
    try folder.write("sub/below/b.yaml", tier("b"))
    #expect(Submissions.read(SourceFiles(["\(folder.path)/sub"])).errors.first?.fix?.contains("-R") == true)
  }

  @Test("What is wrong in several files is told at once, missing files too")
  func allErrors() throws {
    let folder = try Folder()
    try folder.write("a.yaml", head + "kind: Tier\nmetadata: {name: a}\nspec: {order: one}\n")
    try folder.write("b.yaml", head + "kind: Tier\nmetadata: {name: b}\nspec: {ordre: 1}\n")
    let read = Submissions.read(SourceFiles([folder.path]))
    #expect(read.allErrors.count == 2)
    #expect(Submissions.read(SourceFiles(["\(folder.path)/none.yaml"])).errors.first?.description.contains("No such file") == true)
  }

  @Test("Lists of every form stand for their items, and mistakes in them are found in their place")
  func lists() throws {
    let folder = try Folder()
    try folder.write(
      "list.yaml",
      "apiVersion: v1\nkind: List\nitems:\n- apiVersion: projectcalico.org/v3\n  kind: Tier\n  metadata: {name: a}\n- apiVersion: projectcalico.org/v3\n  kind: Tier\n  metadata: {name: b}\n  spec: {order: x}\n"
    )
    try folder.write(
      "tiers.json",
      #"{"apiVersion":"projectcalico.org/v3","kind":"TierList","metadata":{"resourceVersion":"7"},"items":[{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"c"}}]}"#
    )
    try folder.write("two.yaml", tier("d") + "---\n" + tier("e"))
    let read = Submissions.read(SourceFiles([folder.path]))
    #expect(read.items.map(\.resource.metadata.name) == ["a", "c", "d", "e"])
    #expect(read.errors.first?.path == "items[1].spec.order" && read.errors.first?.position?.line == 10)
  }

  @Test("Items of a typed list need not repeat kind and version")
  func typedList() throws {
    let folder = try Folder()
    try folder.write(
      "a.yaml", head + "kind: TierList\nitems:\n- metadata: {name: a}\n  spec: {order: 1}\n- metadata: {name: b}\n  spec: {order: x}\n")
    let read = Submissions.read(SourceFiles([folder.path]))
    #expect(read.items.map(\.resource.key) == [ResourceKey(.tier, name: "a")])
    #expect(read.errors.map(\.path) == ["items[1].spec.order"] && read.errors[0].position?.line == 7, "\(read.errors)")
  }

  @Test("The namespace of the command line is for documents that name none")
  func namespace() throws {
    let folder = try Folder()
    try folder.write(
      "a.yaml", head + "kind: NetworkSet\nmetadata: {name: a}\n---\n" + head + "kind: NetworkSet\nmetadata: {name: b, namespace: own}\n")
    #expect(Submissions.read(SourceFiles([folder.path]), namespace: "shop").items.map(\.resource.metadata.namespace) == ["shop", "own"])
  }

  @Test("An object that is there twice is warned of")
  func repetition() throws {
    let folder = try Folder()
    try folder.write("a.yaml", tier("a") + "---\n" + tier("a"))
    let warnings = Submissions.read(SourceFiles([folder.path])).warnings
    #expect(warnings.count == 1 && warnings[0].position?.line == 6, "\(warnings)")
  }

  @Test("Names are found in documents that are otherwise wrong, for deleting")
  func keys() throws {
    let folder = try Folder()
    try folder.write("a.yaml", head + "kind: Tier\nmetadata: {name: a}\nspec: {order: one}\n---\nkind: Tier\nmetadata: {}\n")
    let read = Submissions.read(SourceFiles([folder.path]))
    #expect(read.keys == [ResourceKey(.tier, name: "a")])
    #expect(!read.nameless.isEmpty && read.nameless.allSatisfy { ($0.position?.line ?? 0) >= 6 }, "\(read.nameless)")
  }
}

@Suite("The order of writing")
struct WriteOrderTests {
  @Test("Every kind has a rank of its own choice")
  func complete() {
    for kind in Kind.allCases { #expect(WriteOrder.writing([kind, kind]) { $0 } == [kind, kind]) }
    let all = WriteOrder.writing(Kind.allCases) { $0 }
    #expect(Set(all).count == Kind.allCases.count)
  }
  @Test("What others need comes first, deletion goes the other way")
  func order() {
    let kinds: [Kind] = [.workloadEndpoint, .networkPolicy, .bgpPeer, .node, .tier, .ipPool, .bgpFilter, .networkSet, .ipReservation]
    let order: [Kind] = [.tier, .ipReservation, .ipPool, .bgpFilter, .node, .bgpPeer, .networkSet, .networkPolicy, .workloadEndpoint]
    #expect(WriteOrder.writing(kinds) { $0 } == order)
    #expect(WriteOrder.deleting(kinds) { $0 } == order.reversed())
  }
  @Test("Within a kind the order of the documents stays")
  func stable() {
    #expect(WriteOrder.writing([(Kind.tier, 2), (.node, 1), (.tier, 1)], \.0).map(\.1) == [2, 1, 1])
  }
}
