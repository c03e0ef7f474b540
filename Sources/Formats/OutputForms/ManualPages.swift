/// Manual pages (mdoc, section 1) from what a program's commands say of themselves: the document of ArgumentParser's
/// `--experimental-dump-help`. One page for each command: `margay`, `margay-get`, `margay-node-status`.
public import JSON

public struct ManualPages {
  public typealias Page = (name: String, text: String)

  private let version: String
  /// As mdoc wants it: `November 25, 2026`.
  private let date: String
  private var pages: [Page] = []

  /// - Parameter date: RFC 3339.
  public static func pages(of dump: JSONValue, version: String, date: String) -> [Page] {
    var made = ManualPages(version: version, date: Self.words(date))
    if let command = dump["command"] { made.add(command, above: []) }
    return made.pages
  }

  private static func words(_ date: String) -> String {
    let months = [
      "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
    ]
    let parts = date.prefix(10).split(separator: "-").compactMap { Int($0) }
    guard parts.count == 3, (1...12).contains(parts[1]) else { return "January 1, 1970" }
    return "\(months[parts[1] - 1]) \(parts[2]), \(parts[0])"
  }

  private mutating func add(_ command: JSONValue, above: [JSONValue]) {
    guard let word = command["commandName"]?.string, command["shouldDisplay"]?.bool != false else { return }
    let words = above.compactMap { $0["commandName"]?.string } + [word]
    let name = words.joined(separator: "-")
    // `help` is every program's; its page would say nothing.
    let inner = (command["subcommands"]?.array ?? []).filter { $0["commandName"] != "help" && $0["shouldDisplay"]?.bool != false }
    let arguments = (command["arguments"]?.array ?? []).filter { $0["shouldDisplay"]?.bool == true }

    var text = ".\\\" Made by `margay manual`; the words are those of `\(words.joined(separator: " ")) --help`.\n"
    text += ".Dd \(date)\n.Dt \(name.uppercased()) 1\n.Os Margay \(version)\n"
    text += ".Sh NAME\n.Nm \(name)\n.Nd \(Self.escape(Self.sentence(command["abstract"]?.string ?? word)))\n"
    text += ".Sh SYNOPSIS\n" + synopsis(words, arguments, hasInner: !inner.isEmpty)
    text += ".Sh DESCRIPTION\n" + paragraphs([command["abstract"]?.string, command["discussion"]?.string].compactMap { $0 })
    if !inner.isEmpty {
      text += ".Pp\nIts commands:\n.Bl -tag -width Ds\n"
      for command in inner {
        let word = command["commandName"]?.string ?? ""
        text += ".It Xr \(name)-\(word) 1\n\(Self.escape(command["abstract"]?.string ?? ""))\n"
      }
      text += ".El\n"
    }
    if !arguments.isEmpty {
      text += inner.isEmpty ? ".Pp\nArguments and options:\n" : ".Pp\nOptions:\n"
      text += ".Bl -tag -width Ds\n" + arguments.map(item).joined() + ".El\n"
    }
    if above.isEmpty {
      text += """
        .Sh ENVIRONMENT
        .Bl -tag -width Ds
        .It Ev MARGAY_DATASTORE
        The datastore, in the words of
        .Fl -datastore .
        .It Ev DATASTORE_TYPE , ETCD_ENDPOINTS , ETCD_CA_CERT_FILE , ETCD_CERT_FILE , ETCD_KEY_FILE , ETCD_USERNAME , ETCD_PASSWORD
        Calico\\(aqs names for the same, also with CALICO_ in front.
        .It Ev NO_COLOR
        If it is set, nothing is coloured.
        .El
        .Sh FILES
        .Bl -tag -width Ds
        .It Pa /etc/calico/calicoctl.cfg
        The configuration that calicoctl reads.
        .El

        """
    } else {
      text += ".Sh SEE ALSO\n.Xr \(words.dropLast().joined(separator: "-")) 1\n"
    }
    pages.append((name, text))
    for command in inner { add(command, above: above + [["commandName": .string(word)]]) }
  }

  private func synopsis(_ words: [String], _ arguments: [JSONValue], hasInner: Bool) -> String {
    var text = ".Nm \(words.joined(separator: " "))\n"
    for argument in arguments {
      let value = argument["valueName"]?.string ?? "value"
      let isOptional = argument["isOptional"]?.bool ?? true
      let isRepeating = argument["isRepeating"]?.bool ?? false
      var words: String
      switch argument["kind"]?.string {
      case "positional": words = "Ar \(Self.argument(value))"
      case "flag": words = Self.flag(argument["preferredName"])
      default: words = "\(Self.flag(argument["preferredName"])) Ar \(Self.argument(value))"
      }
      if isRepeating { words += " ..." }
      text += isOptional ? ".Op \(words)\n" : ".\(words)\n"
    }
    return text + (hasInner ? ".Ar command\n.Op Ar ...\n" : "")
  }

  private func item(_ argument: JSONValue) -> String {
    let value = argument["valueName"]?.string ?? "value"
    let words: String
    if argument["kind"]?.string == "positional" {
      words = "Ar \(Self.argument(value))"
    } else {
      let names = (argument["names"]?.array ?? []).map { Self.flag($0) }.joined(separator: " , ")
      words = names + (argument["kind"]?.string == "option" ? " Ar \(Self.argument(value))" : "")
    }
    var text = [argument["abstract"]?.string, argument["discussion"]?.string].compactMap { $0 }.filter { !$0.isEmpty }.joined(
      separator: " ")
    if let given = argument["defaultValue"]?.string, !given.isEmpty, argument["kind"]?.string != "flag" {
      text += "\(text.isEmpty ? "" : " ")The default is \(given)."
    }
    return ".It \(words)\n" + (text.isEmpty ? "" : "\(Self.escape(text))\n")
  }

  private static func flag(_ name: JSONValue?) -> String {
    let word = name?["name"]?.string ?? ""
    return name?["kind"]?.string == "short" ? "Fl \(word)" : "Fl -\(word)"
  }
  /// In a macro's argument, blanks need quotes.
  private static func argument(_ text: String) -> String {
    let escaped = escape(text)
    return escaped.contains(" ") || escaped.contains(",") ? "\"\(escaped)\"" : escaped
  }

  /// A paragraph for each block of lines.
  private func paragraphs(_ texts: [String]) -> String {
    texts.flatMap { $0.split(separator: "\n").filter { $0.contains { !$0.isWhitespace } } }.map { Self.escape(String($0)) }.joined(
      separator: "\n.Pp\n") + "\n"
  }
  private static func sentence(_ text: String) -> String {
    var text = text
    if text.hasSuffix(".") { text.removeLast() }
    return text
  }

  /// Backslashes and what stands first in a line are roff's; quotes and dashes would become others. Each sentence has a line of its own.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for character in text {
      switch character {
      case "\\": escaped += "\\e"
      case "'": escaped += "\\(aq"
      case "`": escaped += "\\(ga"
      case "^": escaped += "\\(ha"
      case "~": escaped += "\\(ti"
      case "\"": escaped += "\\(dq"
      case "-": escaped += "\\-"
      case "…": escaped += "..."
      case "–", "—": escaped += "\\(en"
      case "→": escaped += "\\(->"
      case "\n": escaped += " "
      default: escaped.append(character)
      }
    }
    let sentences = escaped.replacing("... ", with: "...\\& ").replacing(". ", with: ".\n").split(separator: "\n").map {
      $0.drop { $0 == " " }
    }
    return sentences.map { $0.hasPrefix(".") ? "\\&\($0)" : String($0) }.joined(separator: "\n")
  }
}
