/// `-o go-template=…`: the part of Go's text/template that people use to print objects.
///
/// There are: `{{…}}` with `{{-` and `-}}`, comments, `.field.field`, `$`, variables (`$x := …`, `$x = …`), `range` (with `$i, $e :=`), `if`,
/// `with`, `else`, `else if`, `break`, `continue`, pipelines, parentheses, literals, and the functions in `GoFunctions`.
/// There are not: `define`, `template`, `block` and methods; a template that has them is refused with the place.
///
/// Names are those of the document (`.metadata.name`). So that templates written for calicoctl, which sees Go's structures, work as they are,
/// a name that is not there is looked for without regard to case (`.Spec.CIDR`), `ObjectMeta`, `ListMeta` and `TypeMeta` are what Go means by
/// them, and the root is calicoctl's list of results (`{{range .}}{{range .Items}}`) and kubectl's document (`{{range .items}}`) at once.
/// What is not there prints nothing.
public import JSON

public struct GoTemplate: Sendable {
  let nodes: [Node]

  indirect enum Node: Sendable {
    case text(String)
    case print(Pipeline)
    case assign(Pipeline)
    case branch(Branch)
    case range(Branch)
    case leave(isContinue: Bool)
  }
  struct Branch: Sendable {
    var isWith = false
    var condition: Pipeline
    var then: [Node]
    var otherwise: [Node]
  }
  struct Pipeline: Sendable {
    /// `$x :=`, `$i, $e :=`; empty for none.
    var variables: [String] = []
    var isDeclaration = false
    var commands: [Command] = []
    var position: JSONPosition
  }
  struct Command: Sendable {
    var operands: [Operand]
    var position: JSONPosition
  }
  indirect enum Operand: Sendable {
    case dot
    case literal(JSONValue)
    case function(String, at: JSONPosition)
    case variable(String, at: JSONPosition)
    case group(Pipeline)
    /// The fields of another operand: `.a.b`, `$x.a`, `(…).a`.
    case fields(Operand, [String], at: JSONPosition)
  }

  public init(_ text: String) throws(TemplateError) {
    var parser = GoTemplateParser(text)
    nodes = try parser.whole()
  }

  /// - Parameter stepsMax: so many actions may run. A template is its reader's own, who can interrupt it; others set a limit.
  public func text(for document: JSONValue, stepsMax: Int = .max) throws(TemplateError) -> String {
    var run = GoTemplateRun(root: .array([document]), stepsMax: stepsMax)
    try run.whole(nodes)
    return run.output
  }
}

/// Runs a template. Declared variables live to the end of the block that declares them.
struct GoTemplateRun {
  let root: JSONValue
  var output = ""
  private var variables: [(name: String, value: JSONValue?)]
  private enum Flow { case on, leave, next }

  private var stepsLeft: Int

  init(root: JSONValue, stepsMax: Int) {
    self.root = root
    stepsLeft = stepsMax
    variables = [("$", root)]
  }

  mutating func whole(_ nodes: [GoTemplate.Node]) throws(TemplateError) { _ = try run(nodes, root) }

  private mutating func run(_ nodes: [GoTemplate.Node], _ dot: JSONValue?) throws(TemplateError) -> Flow {
    for node in nodes {
      stepsLeft -= 1
      if stepsLeft < 0 { throw TemplateError("the template does not come to an end", at: JSONPosition(line: 1, column: 1)) }
      switch node {
      case .text(let text): output += text
      case .print(let pipeline): output += GoFunctions.text(try value(of: pipeline, dot))
      case .assign(let pipeline): _ = try value(of: pipeline, dot)
      case .leave(let isContinue): return isContinue ? .next : .leave
      case .branch(let branch):
        let depth = variables.count
        defer { variables.removeLast(variables.count - depth) }
        let condition = try value(of: branch.condition, dot)
        let holds = GoFunctions.isTrue(condition)
        let flow = try run(holds ? branch.then : branch.otherwise, holds && branch.isWith ? condition : dot)
        if flow != .on { return flow }
      case .range(let branch):
        let depth = variables.count
        defer { variables.removeLast(variables.count - depth) }
        var condition = branch.condition
        condition.variables = []
        let elements = try elements(of: try value(of: condition, dot), branch.condition.position)
        if elements.isEmpty {
          let flow = try run(branch.otherwise, dot)
          if flow != .on { return flow }
        }
        elements: for (key, element) in elements {
          let inner = variables.count
          defer { variables.removeLast(variables.count - inner) }
          let names = branch.condition.variables
          if names.count == 2 { try set(names[0], key, branch.condition) }
          if let name = names.last { try set(name, element, branch.condition) }
          switch try run(branch.then, element) {
          case .leave: break elements
          case .on, .next: break
          }
        }
      }
    }
    return .on
  }

  private func elements(of value: JSONValue?, _ position: JSONPosition) throws(TemplateError) -> [(JSONValue, JSONValue)] {
    switch value {
    case nil, .null: []
    case .array(let elements): elements.enumerated().map { (.integer(Int64($0.offset)), $0.element) }
    // Go walks over maps in the order of their keys.
    case .object(let object): object.members.sorted { $0.name < $1.name }.map { (.string($0.name), $0.value) }
    case .integer(let count) where count <= 1_000_000: (0..<max(0, count)).map { (.integer($0), .integer($0)) }
    default: throw TemplateError("range needs a list or an object, and this is \(GoFunctions.kind(of: value))", at: position)
    }
  }

  private mutating func set(_ name: String, _ value: JSONValue?, _ pipeline: GoTemplate.Pipeline) throws(TemplateError) {
    if pipeline.isDeclaration {
      variables.append((name, value))
    } else if let index = variables.lastIndex(where: { $0.name == name }) {
      variables[index].value = value
    } else {
      throw TemplateError("the variable \(name) is not declared; write \(name) := …", at: pipeline.position)
    }
  }

  private mutating func value(of pipeline: GoTemplate.Pipeline, _ dot: JSONValue?) throws(TemplateError) -> JSONValue? {
    var result: JSONValue?
    for (index, command) in pipeline.commands.enumerated() {
      result = try value(of: command, dot, piped: index > 0 ? .some(result) : nil)
    }
    for name in pipeline.variables { try set(name, result, pipeline) }
    return result
  }

  private mutating func value(of command: GoTemplate.Command, _ dot: JSONValue?, piped: JSONValue??) throws(TemplateError) -> JSONValue? {
    guard case .function(let name, let position) = command.operands[0] else {
      if command.operands.count > 1 { throw TemplateError("only a function takes arguments", at: command.position) }
      if piped != nil { throw TemplateError("a value goes by | into a function, such as len", at: command.position) }
      return try value(of: command.operands[0], dot)
    }
    // `and` and `or` stop at the operand that decides.
    if name == "and" || name == "or" {
      var result: JSONValue? = nil
      var count = 0
      for operand in command.operands.dropFirst() {
        result = try value(of: operand, dot)
        count += 1
        if GoFunctions.isTrue(result) == (name == "or") { return result }
      }
      if let piped { return piped }
      if count == 0 { throw TemplateError("\(name) needs a value", at: position) }
      return result
    }
    var arguments: [JSONValue?] = []
    for operand in command.operands.dropFirst() { arguments.append(try value(of: operand, dot)) }
    if let piped { arguments.append(piped) }
    do throws(GoFunctions.Fault) {
      return try GoFunctions.call(name, arguments)
    } catch {
      throw TemplateError("\(name): \(error.text)", at: position)
    }
  }

  private mutating func value(of operand: GoTemplate.Operand, _ dot: JSONValue?) throws(TemplateError) -> JSONValue? {
    switch operand {
    case .dot: return dot
    case .literal(let value): return value
    case .group(let pipeline): return try value(of: pipeline, dot)
    case .function(let name, let position):
      return try value(of: GoTemplate.Command(operands: [.function(name, at: position)], position: position), dot, piped: nil)
    case .variable(let name, let position):
      guard let found = variables.last(where: { $0.name == name }) else {
        throw TemplateError("the variable \(name) is not declared", at: position)
      }
      return found.value
    case .fields(let inner, let names, let position):
      var present = try value(of: inner, dot)
      for name in names { present = try field(name, of: present, position) }
      return present
    }
  }

  private func field(_ name: String, of value: JSONValue?, _ position: JSONPosition) throws(TemplateError) -> JSONValue? {
    switch value {
    case nil, .null: return nil
    case .object(let object):
      if let member = object[name] { return member }
      let lower = name.lowercased()
      if let member = object.members.first(where: { $0.name.lowercased() == lower }) { return member.value }
      switch name {
      case "ObjectMeta", "ListMeta": return object["metadata"]
      case "TypeMeta": return value
      // Go promotes the fields of the metadata.
      case "Name", "Namespace", "Labels", "Annotations", "UID", "ResourceVersion", "CreationTimestamp":
        guard let metadata = object["metadata"] else { return nil }
        return try field(name, of: metadata, position)
      default: return nil
      }
    case .array(let elements) where value == root && elements.count == 1: return try field(name, of: elements[0], position)
    case let other: throw TemplateError("\(GoFunctions.kind(of: other)) has no field .\(name)", at: position)
    }
  }
}
