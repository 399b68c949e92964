//! On tokio-uring.

use crate::work::{self, ANSWER, BLOCK, Frames, Places, RECEIVE, REQUEST, Work};
use std::os::unix::fs::OpenOptionsExt;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;
use tokio_uring::net::{TcpListener, TcpStream};

pub(crate) fn serve(work: Work) {
    tokio_uring::start(async move {
        let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        println!("{}", listener.local_addr().expect("it listens"));
        for connection in 0.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio_uring::spawn(serve_one(work.clone(), stream, connection));
        }
    });
}

async fn serve_one(work: Work, stream: TcpStream, connection: usize) {
    stream.set_nodelay(true).expect("a TCP socket");
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    let path = work::file(&work.dir, connection);
    let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(direct).open(path);
    let file = File::from_std(file.expect("its file"));
    let (mut frames, mut places) = (Frames::default(), Places::new());
    let mut bytes = vec![0; RECEIVE];
    loop {
        let (came, given_back) = stream.read(bytes).await;
        bytes = given_back;
        let came = came.unwrap_or(0);
        if came == 0 {
            return;
        }
        let mut whole = Vec::new();
        frames.came(&bytes[..came], |request| {
            let mut block = vec![0; REQUEST + BLOCK];
            let begin = block.as_ptr().addr().wrapping_neg() % BLOCK;
            block[begin..begin + REQUEST].copy_from_slice(request);
            whole.push((begin, block));
        });
        for (begin, block) in whole {
            let part = block.slice(begin..begin + REQUEST);
            let (written, _) = file.write_at(part, places.next()).submit().await;
            assert_eq!(written.expect("a write"), REQUEST);
            if work.sync {
                file.sync_data().await.expect("a sync");
            }
            if stream.write_all(&ANSWER[..]).await.0.is_err() {
                return;
            }
        }
    }
}
