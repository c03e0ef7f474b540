/// `margay selector`: the selector language by itself, for scripts and for people who want to be sure.
import ArgumentParser
import Glibc
import Selectors

struct SelectorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "selector", abstract: "Try selectors.", subcommands: [Match.self, Canonical.self, Identify.self])

  static func parse(_ text: String) throws -> Selector {
    do throws(SelectorError) {
      return try Selector(parsing: text)
    } catch {
      // The selector with a mark below the place that is wrong.
      writeError("\(error)\n  \(text)\n  \(String(repeating: " ", count: max(error.position - 1, 0)))^\n")
      throw ExitCode(2)
    }
  }

  struct Match: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Does the selector match these labels? Exit 0 match, 1 no match, 2 bad selector.")
    @Argument(help: "For example: 'app == \"web\" && has(team)'") var selector: String
    @Argument(help: "Labels as key=value.") var labels: [String] = []

    func run() throws {
      let selector = try SelectorCommand.parse(selector)
      var byKey: [String: String] = [:]
      for label in labels {
        guard let equals = label.firstIndex(of: "="), equals != label.startIndex else {
          writeError("\"\(label)\" is no label; write key=value\n")
          throw ExitCode(2)
        }
        byKey[String(label[..<equals])] = String(label[label.index(after: equals)...])
      }
      let isMatch = selector.matches { byKey[$0] }
      write(isMatch ? "match\n" : "no match\n")
      if !isMatch { throw ExitCode(1) }
    }
  }

  struct Canonical: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the selector in its canonical form.")
    @Argument var selector: String
    func run() throws { write(try SelectorCommand.parse(selector).canonical + "\n") }
  }

  struct Identify: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "id", abstract: "Print the selector's unique id.")
    @Argument var selector: String
    func run() throws { write(try SelectorCommand.parse(selector).uniqueID + "\n") }
  }
}
