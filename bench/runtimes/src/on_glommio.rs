//! On glommio.

use crate::work::{self, ANSWER, Frames, Places, RECEIVE, Work};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::io::OpenOptions;
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

pub(crate) fn serve(work: Work) {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(0)).make().expect("an executor");
    executor.run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        println!("{}", listener.local_addr().expect("it listens"));
        for connection in 0.. {
            let stream = listener.accept().await.expect("a connection");
            glommio::spawn_local(serve_one(work.clone(), stream, connection)).detach();
        }
    });
}

async fn serve_one(work: Work, mut stream: TcpStream, connection: usize) {
    stream.set_nodelay(true).expect("a TCP socket");
    let path = work::file(&work.dir, connection);
    let file = OpenOptions::new().read(true).write(true).dma_open(path).await.expect("its file");
    let (mut frames, mut places) = (Frames::default(), Places::new());
    let mut bytes = vec![0; RECEIVE];
    loop {
        let came = stream.read(&mut bytes).await.unwrap_or(0);
        if came == 0 {
            return;
        }
        let mut whole = Vec::new();
        frames.came(&bytes[..came], |request| {
            let mut block = file.alloc_dma_buffer(request.len());
            block.as_bytes_mut().copy_from_slice(request);
            whole.push(block);
        });
        for block in whole {
            file.write_at(block, places.next()).await.expect("a write");
            if work.sync {
                file.fdatasync().await.expect("a sync");
            }
            if stream.write_all(&ANSWER).await.is_err() {
                return;
            }
        }
    }
}
