//! Queries of exec, attach and port-forward. Rules and texts: upstream `k8s.io/cri-streaming`
//! `pkg/streaming/remotecommand/httpstream.go` and `portforward/websocket.go`.

use http::{HeaderMap, header};

use crate::host::Streams;

fn values<'q>(query: &'q str, name: &'static str) -> impl Iterator<Item = String> + 'q {
    form_urlencoded::parse(query.as_bytes())
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// The streams that are wanted. A terminal has no stderr of its own, so that is left out.
pub(crate) fn streams(query: &str) -> Result<Streams, &'static str> {
    let is_set = |name| values(query, name).next().is_some_and(|value| value == "1" || value == "true");
    let tty = is_set("tty");
    let streams =
        Streams { stdin: is_set("input"), stdout: is_set("output"), stderr: is_set("error") && !tty, tty };
    if streams.stdin || streams.stdout || streams.stderr {
        Ok(streams)
    } else {
        Err("you must specify at least 1 of stdin, stdout, stderr")
    }
}

/// The command of exec.
pub(crate) fn command(query: &str) -> Vec<String> {
    values(query, "command").collect()
}

/// The ports of a WebSocket request; SPDY clients name theirs later, stream by stream.
pub(crate) fn forwarded_ports(query: &str, headers: &HeaderMap) -> Result<Vec<i32>, String> {
    let websocket = headers
        .get_all(header::UPGRADE)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.eq_ignore_ascii_case("websocket")));
    if !websocket {
        return Ok(vec![]);
    }
    let lists: Vec<String> = values(query, "port").collect();
    if lists.is_empty() {
        return Err("query parameter \"port\" is required".to_owned());
    }
    let mut ports = vec![];
    for list in &lists {
        if list.is_empty() {
            return Err("query parameter \"port\" cannot be empty".to_owned());
        }
        for port in list.split(',') {
            ports.push(match port.parse::<u16>() {
                Ok(0) => return Err(format!("port {list:?} must be > 0")),
                Ok(port) => port.into(),
                Err(error) => return Err(format!("unable to parse {list:?} as a port: {error}")),
            });
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_stream_is_wanted_and_a_terminal_has_no_stderr() {
        let streams_of = |stdin, stdout, stderr, tty| Ok(Streams { stdin, stdout, stderr, tty });
        let none = Err("you must specify at least 1 of stdin, stdout, stderr");
        for (query, expected) in [
            ("input=1&output=1&error=1", streams_of(true, true, true, false)),
            ("output=1&error=1&tty=1", streams_of(false, true, false, true)),
            ("output=true", streams_of(false, true, false, false)),
            ("output=0&output=1", none),
            ("tty=1&error=1", none),
            ("", none),
            ("stdout=1", none),
        ] {
            assert_eq!(streams(query), expected, "{query}");
        }
    }

    #[test]
    fn a_command_keeps_its_words() {
        assert_eq!(command("command=sh&command=-c&input=1&command=echo%20a+b%26"), ["sh", "-c", "echo a b&"]);
    }

    #[test]
    fn websocket_clients_name_their_ports_beforehand() {
        let spdy = HeaderMap::from_iter([(header::UPGRADE, header::HeaderValue::from_static("SPDY/3.1"))]);
        let websocket =
            HeaderMap::from_iter([(header::UPGRADE, header::HeaderValue::from_static("WebSocket"))]);
        assert_eq!(forwarded_ports("", &spdy), Ok(vec![]));
        for (query, expected) in [
            ("port=80&port=443,8080", Ok(vec![80, 443, 8080])),
            ("", Err("query parameter \"port\" is required")),
            ("port=", Err("query parameter \"port\" cannot be empty")),
            ("port=0", Err("port \"0\" must be > 0")),
            ("port=80,http", Err("unable to parse \"80,http\" as a port: invalid digit found in string")),
            (
                "port=65536",
                Err("unable to parse \"65536\" as a port: number too large to fit in target type"),
            ),
        ] {
            assert_eq!(forwarded_ports(query, &websocket), expected.map_err(str::to_owned), "{query}");
        }
    }
}
