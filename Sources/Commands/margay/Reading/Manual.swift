/// completion, manual: what a package installs beside the program, made by the program itself from what its commands say of themselves.
import ArgumentParser
import Documents
import JSON
import Names
import OutputForms
import Sockets

struct Completion: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The completion script of a shell.",
    discussion: """
      For this session: source <(margay completion bash), or margay completion fish | source. For good: bash reads \
      /usr/share/bash-completion/completions/margay, zsh a file _margay in a folder of its fpath, fish \
      /usr/share/fish/vendor_completions.d/margay.fish. Kinds are completed everywhere; names of objects where the datastore answers within \
      half a second.
      """)
  enum Shell: String, ExpressibleByArgument, CaseIterable { case bash, zsh, fish }
  @Argument(help: "bash, zsh or fish.") var shell: Shell

  func run() {
    let script: String
    switch shell {
    case .bash: script = Margay.completionScript(for: .bash)
    case .zsh: script = Margay.completionScript(for: .zsh)
    case .fish: script = Margay.completionScript(for: .fish)
    }
    emit(script.hasSuffix("\n") ? script : script + "\n")
  }
}

struct Manual: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write the manual pages into a folder.",
    discussion: "One page for each command, in section 1. SOURCE_DATE_EPOCH sets their date.",
    shouldDisplay: false)
  @Argument(help: "The folder; made if it is missing.", completion: .directory) var directory: String

  func run() throws {
    let dump = try JSONValue(parsing: Array(Margay._dumpHelp().utf8))
    let seconds = environment("SOURCE_DATE_EPOCH").flatMap(Int64.init) ?? UTCTime.now().unixSeconds
    try Files.makeDirectories(directory)
    for page in ManualPages.pages(of: dump, version: Margay.version, date: UTCTime(unixSeconds: seconds).text) {
      try Files.writeAtomically(Array(page.text.utf8), to: "\(directory)/\(page.name).1")
    }
  }
}
