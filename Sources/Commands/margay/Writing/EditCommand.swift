/// edit: stored objects in the person's own editor.
import ArgumentParser
import Datastore
import Glibc
import ResourceVerbs
import Resources
import Sockets

struct Edit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Edit stored objects in $VISUAL or $EDITOR.",
    discussion: """
      What is wrong with the text comes back as comments at its top. What others changed meanwhile in other fields stays. If it cannot be \
      written, the text is kept in a file that is named.
      """)
  @Argument(help: ArgumentHelp("The kind, in any of its words.", valueName: "kind"), completion: .custom(Completions.objects)) var kindWord:
    String
  @Argument(help: "Names.", completion: .custom(Completions.objects)) var names: [String]
  @OptionGroup var namespace: NamespaceOption
  @OptionGroup var answer: AnswerOptions
  @OptionGroup var store: DatastoreOptions
  @OptionGroup var calicoctl: CalicoctlOptions

  func run() async throws {
    try calicoctl.check()
    let kind = try kindOfUsage(kindWord)
    let writer = try openWriter(store, rehearsal: false)
    let keys = names.map { ResourceKey(kind, namespace: namespace.namespace, name: $0) }
    var session: EditSession
    do {
      session = try await EditSession(keys, writer)
    } catch {
      let failure = WriteFailure(error, of: keys[0])
      writeError("\(failure)\n")
      throw ExitCode((failure.isUnreachable ? ExitStatus.unreachable : .failed).rawValue)
    }
    let file = try TextFile()
    var opened = session.body
    var errors: [String] = []
    // Saved as it was opened means: nothing to do; or, below a conflict: yes, write it.
    var isOffer = false
    while true {
      try file.write(EditSession.text(opened, errors: errors))
      let body: String
      do {
        try Self.openEditor(on: file.path)
        body = EditSession.body(of: try Files.readText(file.path))
      } catch {
        writeError("\(error)\n")
        let isChanged = (try? Files.readText(file.path)).map { EditSession.body(of: $0) != opened } ?? false
        if isChanged || !errors.isEmpty { return try file.keep(.failed) }
        file.remove()
        throw ExitCode(ExitStatus.failed.rawValue)
      }
      let isEmpty = body.utf8.allSatisfy { $0 == 0x20 || $0 == 0x0a }
      if body == opened && !isOffer || isEmpty {
        if errors.isEmpty {
          file.remove()
          return write("nothing is changed\n")
        }
        // The same text again would come to the same end.
        for error in errors { writeError("\(error)\n") }
        if isEmpty { try file.write(opened) }
        return try file.keep(.failed)
      }
      switch await session.submit(body) {
      case .done(let reports):
        file.remove()
        var answer = Answer("edit", answer.output)
        for report in reports { answer.tell(report) }
        return try answer.end()
      case .again(let found): (opened, errors, isOffer) = (body, found, false)
      case .merged(let text, let found): (opened, errors, isOffer) = (text, found, true)
      case .unreachable(let failure):
        writeError("\(failure)\n")
        return try file.keep(.unreachable)
      }
    }
  }

  private static func openEditor(on path: String) throws {
    let editor = [environment("VISUAL"), environment("EDITOR")].compactMap { $0 }.first { !$0.isEmpty } ?? "vi"
    let child = try ChildCommand("/bin/sh", ["-c", "\(editor) \"$1\"", "sh", path], input: 0).start()
    // A Ctrl-C on the terminal is the editor's; ours would leave it behind without us.
    let interrupt = unsafe signal(SIGINT, SIG_IGN)
    defer { unsafe signal(SIGINT, interrupt) }
    let code = try child.wait()
    if code != 0 { throw CommandProblem("the editor (\(editor)) ended with exit code \(code)") }
  }
}

/// The text on its way to the editor and back; only its owner may read it.
private struct TextFile {
  let path: String

  init() throws {
    var template = Array("\(environment("TMPDIR") ?? "/tmp")/margay-edit-XXXXXX.yaml".utf8CString)
    let descriptor = unsafe mkstemps(&template, 5)
    guard descriptor >= 0 else { throw SystemError.last("make a file for the text in \(environment("TMPDIR") ?? "/tmp")") }
    close(descriptor)
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
  func write(_ text: String) throws { try Files.writeAtomically(Array(text.utf8), to: path, mode: 0o600) }
  func remove() { unlink(path) }
  func keep(_ status: ExitStatus) throws {
    writeError("the text is kept in \(path)\n")
    throw ExitCode(status.rawValue)
  }
}
